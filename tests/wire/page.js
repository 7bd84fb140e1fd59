// One EventSource per job. What is shown is keyed by id, so nothing can appear twice.
// It never closes its source: 204 is what ends it.
const NAMES = ["token", "done", "job_complete", "job_error", "job_cancelled"];

function follow(url) {
  const shown = new Map();
  const heard = [];
  const states = [];
  const source = new EventSource(url);
  return new Promise((resolve) => {
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        heard.push([name, event.lastEventId, event.data]);
        shown.set(event.lastEventId, JSON.parse(event.data).text ?? "");
      });
    }
    source.onmessage = (event) => heard.push(["message", event.lastEventId, event.data]);
    source.onerror = () => {
      states.push(source.readyState);
      if (source.readyState === 2) {
        resolve({ heard, states, text: [...shown.values()].join("") });
      }
    };
  });
}

function followAll(urls) {
  return Promise.all(urls.map(follow)).then(JSON.stringify);
}
