// What every driver does: run the case that it is told, and say what came of it as JSON.
export const QUESTION = "Tell me a story about a dog.";
export const MESSAGES = [{ role: "user", content: QUESTION }];
export const PROMPT = "Once upon a time";
export const TOKENS = 30;
export const MANY = 900;

export async function main(cases) {
  const [url, name] = process.argv.slice(2);
  const told = await cases[name](url);
  console.log(JSON.stringify(told ?? null));
  process.exit(0);
}
