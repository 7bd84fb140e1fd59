/** Wires the page to its parts. */

import { Chat } from "./chat.js";
import { Completion } from "./complete.js";
import { Lane, Lanes } from "./lanes.js";
import { MOST, Neighbours } from "./neighbours.js";
import { Penstock } from "./penstock.js";
import { Timing } from "./timing.js";
import { Valve } from "./valve.js";

const KEY = "penstock.key";
const THEME = "penstock.theme";
const FASTEST = 120;
const TOLD_MS = 8000;

const at = (id) => document.getElementById(id);
const penstock = new Penstock({ key: recall(sessionStorage, KEY) ?? "" });
const valve = new Valve();
const lanes = new Lanes(penstock, showDecoder);
const you = lanes.add(new Lane("You", at("lanes"), { you: true }));
const timing = new Timing(at("chart"), showTiming);
const neighbours = new Neighbours(penstock, lanes, at("lanes"), model);
const chat = new Chat(penstock, {
  log: at("log"),
  hello: at("hello"),
  lane: you,
  lanes,
  timing,
  valve,
  told: showError,
  changed: showRunning,
});
const completion = new Completion(penstock, {
  field: at("code"),
  ghost: at("ghost"),
  accept: at("accept"),
  offer: at("offer"),
  figures: (counted) => Object.entries(counted).forEach(([id, count]) => (at(id).textContent = String(count))),
  failed: showError,
  model,
  instruments: () => (chat.running ? null : { lane: you, lanes, timing }),
});

function recall(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null; // storage can be off
  }
}

function model() {
  return at("model").value || undefined;
}

// What is shown while something runs

let telling = 0;
let work = null;

function showDecoder(decoder) {
  at("computed").textContent = String(you.computed);
  at("delivered").textContent = String(you.delivered);
  at("read").textContent = String(you.read);
  at("ahead").textContent = String(you.ahead);
  at("state").textContent = you.words;
  at("rate").textContent = you.id === null ? "–" : String(you.pace);
  document.querySelector(".turn.live")?.classList.toggle("shut", valve.rate === 0);
  if (decoder === null) {
    at("decoder").textContent = "no stream runs";
    work = null;
    return;
  }
  const { active, slots, rows } = decoder;
  const now = performance.now();
  const computed = work ? Math.round(((rows - work.rows) / (now - work.at)) * 1000) : 0;
  work = { rows, at: now };
  at("decoder").textContent = `${active} of ${slots} slots, ${computed} tokens/s computed`;
}

function showTiming() {
  const whole = (ms) => (ms === null || ms === undefined ? "–" : ms < 10 ? ms.toFixed(1) : Math.round(ms));
  at("ttft").textContent = `${whole(timing.ttft)}`;
  at("p50").textContent = `${whole(timing.percentile(0.5))}`;
  at("p95").textContent = `${whole(timing.percentile(0.95))}`;
}

function showRunning(live) {
  const stopped = document.activeElement === at("stop");
  at("stop").hidden = !live;
  at("send").hidden = live;
  if (stopped) at("log").focus({ preventScroll: true }); // what is hidden loses the focus
}

function showError(error) {
  clearTimeout(telling);
  at("told").textContent = `${error.message}.`;
  telling = setTimeout(() => (at("told").textContent = ""), TOLD_MS);
  if (error.status === 401 || error.code === "invalid_api_key") at("key-dialog").showModal();
}

// Chat

function sampling() {
  const asked = { model: model() };
  for (const { name, value } of at("sampling").querySelectorAll("input")) {
    if (value !== "") asked[name] = Number(value);
  }
  return asked;
}

function say(text) {
  const said = text.trim();
  if (!said || chat.running) return;
  at("say").value = "";
  chat.say(said, sampling(), document.querySelector("input[name=wire]:checked").value);
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say(at("say").value);
});
at("say").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say(at("say").value);
});
at("ideas").addEventListener("click", ({ target }) => target.closest("button") && say(target.textContent));
at("stop").addEventListener("click", () => chat.stop());
at("fresh").addEventListener("click", () => chat.clear());
for (const knob of at("sampling").querySelectorAll("input[type=range]")) {
  const told = knob.parentElement.querySelector("output");
  const show = () => (told.textContent = knob.value);
  knob.addEventListener("input", show);
  show();
}

// The valve

let opened = 100;

/** The slider is logarithmic: half of it is for paces at which one can read along. */
function paceOf(position) {
  if (position === 0) return 0;
  return position === 100 ? Infinity : Math.max(Math.round(FASTEST ** (position / 99)), 1);
}

function setValve(position) {
  const rate = paceOf(position);
  const told = rate === 0 ? "shut" : rate === Infinity ? "open" : `${rate} tokens/s`;
  valve.rate = rate;
  at("pace").value = String(position);
  at("pace").setAttribute("aria-valuetext", told);
  at("pace-told").textContent = told;
  at("spokes").style.setProperty("--turn", `${position * 4.5}deg`);
  at("wheel").setAttribute("aria-pressed", String(rate === 0));
}

at("pace").addEventListener("input", ({ target }) => setValve(Number(target.value)));
at("wheel").addEventListener("click", () => {
  const position = Number(at("pace").value);
  if (position) opened = position;
  setValve(position ? 0 : opened);
});
setValve(100);

// Neighbours

function showNeighbours() {
  at("count").textContent = String(neighbours.count);
  at("fewer").disabled = neighbours.count === 0;
  at("more").disabled = neighbours.count === MOST;
}

at("more").addEventListener("click", () => {
  neighbours.more();
  showNeighbours();
});
at("fewer").addEventListener("click", () => {
  neighbours.fewer();
  showNeighbours();
});
showNeighbours();

// Tabs

const tabs = [at("tab-chat"), at("tab-complete")];

function choose(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    at(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
  if (chosen === tabs[0]) completion.end();
  else completion.begin();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowRight" && key !== "ArrowLeft") return;
    const other = tabs.find((each) => each !== tab);
    choose(other);
    other.focus();
  });
}

// Theme and key

at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem(THEME, root.dataset.theme);
  } catch {
    // It lasts for this page, then.
  }
});

at("key").addEventListener("click", () => {
  at("key-field").value = penstock.key;
  at("key-dialog").showModal();
});
at("key-dialog").addEventListener("close", () => {
  const how = at("key-dialog").returnValue;
  if (how !== "keep" && how !== "forget") return;
  penstock.key = how === "keep" ? at("key-field").value.trim() : "";
  at("key").classList.toggle("set", penstock.key !== "");
  try {
    sessionStorage.setItem(KEY, penstock.key);
  } catch {
    // It lasts for this page, then.
  }
  listModels();
});
at("key").classList.toggle("set", penstock.key !== "");

async function listModels() {
  try {
    const names = await penstock.models();
    at("model").replaceChildren(...names.map((name) => new Option(name, name)));
  } catch (error) {
    showError(error);
  }
}

listModels();
chat.restore();
