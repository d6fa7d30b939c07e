"use strict";
/* Asks the questions one after the other, keeps the answers in this browser, and ends in a file. All of it stays in the page. */

const study = JSON.parse(document.getElementById("study").textContent);
const questionOf = Object.fromEntries(study.questions.map((question) => [question.id, question]));
const taskOf = Object.fromEntries(study.tasks.map((task) => [task.name, task]));
const place = `study ${study.study} ${study.group}`;
const get = (id) => document.getElementById(id);
const MAX_SECONDS = 3600; // of one question: whoever goes away meanwhile is not slow

let state = recall(); // { participant, ballot, answers: question -> pictures, the best first; seconds: question -> number; at: index }
let order = [];
let since = 0;

/* Numbers in [0, 1) that follow from a text: the hash xmur3 and the generator mulberry32, both in the public domain. */
function makeRandom(text) {
  let hash = 1779033703 ^ text.length;
  for (const letter of text) {
    hash = Math.imul(hash ^ letter.codePointAt(0), 3432918353);
    hash = (hash << 13) | (hash >>> 19);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
  hash = Math.imul(hash ^ (hash >>> 13), 3266489909);
  let number = (hash ^ (hash >>> 16)) >>> 0;
  return () => {
    number = (number + 0x6d2b79f5) | 0;
    let mixed = Math.imul(number ^ (number >>> 15), 1 | number);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/* The values in an order that follows from the study, the participant and a name, and from nothing else. */
function shuffle(values, name) {
  const random = makeRandom([study.study, study.group, state.participant, name].join("\u001f"));
  const mixed = [...values];
  for (let last = mixed.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
  }
  return mixed;
}

/* One kind of question after the other: which comes first, and their order in it, is the participant's own. */
function orderQuestions() {
  const kinds = shuffle(study.tasks.map((task) => task.name), "tasks");
  return kinds.flatMap((kind) => shuffle(study.questions.filter((question) => question.task === kind).map((question) => question.id), kind));
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(place));
    if (kept && typeof kept.participant === "string" && kept.answers && kept.seconds && Number.isInteger(kept.at)) return kept;
  } catch { /* nothing is kept, or it cannot be read */ }
  return null;
}

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify(state));
    return true;
  } catch {
    return false;
  }
}

function makeNumber() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((value) => value.toString(16).padStart(2, "0")).join("");
}

function show(section) {
  for (const id of ["intro", "task", "end"]) get(id).hidden = id !== section;
  get("top").hidden = section === "intro";
  const answered = study.questions.filter((question) => isAnswered(question.id)).length;
  get("progress").value = answered;
  get("count").textContent = `${answered} of ${study.questions.length}`;
}

function isAnswered(id) {
  return (state?.answers[id] ?? []).length === questionOf[id].candidates.length;
}

function begin() {
  order = orderQuestions();
  ask(Math.min(state.at, order.length));
}

/* Count the seconds of the question that is left, and show another one, or the end. */
function ask(at) {
  countSeconds();
  state.at = at;
  keep();
  if (at >= order.length) {
    const open = order.findIndex((id) => !isAnswered(id));
    if (open >= 0) return ask(open);
    return finish();
  }
  const question = questionOf[order[at]];
  const task = taskOf[question.task];
  get("question").textContent = task.question;
  get("text").textContent = question.text;
  get("about").textContent = task.context;
  get("context").className = question.context.length === 1 ? "single" : "";
  get("context").replaceChildren(...question.context.map((picture, index) => drawPicture(picture, `Shown above, ${index + 1}`)));
  get("candidates").replaceChildren(...shuffle(question.candidates, question.id).map(drawCandidate));
  get("back").hidden = at === 0;
  since = performance.now();
  show("task");
  refresh("");
  window.scrollTo(0, 0);
  get("question").focus({ preventScroll: true });
}

function countSeconds() {
  if (!since) return;
  const id = order[state.at];
  state.seconds[id] = Math.min(MAX_SECONDS, Math.round((state.seconds[id] ?? 0) * 10 + (performance.now() - since) / 100) / 10);
  since = 0;
}

function drawPicture(picture, words) {
  const image = new Image();
  image.src = study.pictures[picture];
  image.alt = words;
  return image;
}

function drawCandidate(picture, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "candidate";
  button.dataset.picture = picture;
  const label = document.createElement("span");
  label.textContent = `${index + 1}`;
  button.append(drawPicture(picture, ""), document.createElement("b"), label);
  button.addEventListener("click", () => choose(picture));
  return button;
}

/* Give a picture the next place, or take it back: those behind it move up. */
function choose(picture) {
  const id = order[state.at];
  const chosen = state.answers[id] ?? [];
  state.answers[id] = chosen.includes(picture) ? chosen.filter((other) => other !== picture) : [...chosen, picture];
  keep();
  refresh();
}

function refresh(said) {
  const id = order[state.at];
  const chosen = state.answers[id] ?? [];
  [...get("candidates").children].forEach((button, index) => {
    const rank = chosen.indexOf(button.dataset.picture) + 1;
    button.setAttribute("aria-pressed", rank > 0);
    button.setAttribute("aria-label", rank ? `Picture ${index + 1}, place ${rank}` : `Picture ${index + 1}, no place yet`);
    button.querySelector("b").textContent = rank || "";
  });
  const left = questionOf[id].candidates.length - chosen.length;
  get("next").setAttribute("aria-disabled", left > 0);
  get("said").textContent = said ?? (left ? `${left} left` : "Done: go on, or tap a picture to take it back.");
}

function goOn() {
  if (isAnswered(order[state.at])) ask(state.at + 1);
  else get("said").textContent = "Please put all pictures in order first.";
}

function buildBallot() {
  const answers = order.map((id) => ({
    question: id, order: state.answers[id], shown: shuffle(questionOf[id].candidates, id), seconds: state.seconds[id] ?? 0,
  }));
  return { format: study.format, study: study.study, group: study.group, participant: state.participant, ballot: state.ballot, answers };
}

function finish() {
  const text = JSON.stringify(buildBallot());
  const link = get("save");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `ballot-${study.group}-${state.participant.replace(/[^A-Za-z0-9_-]/g, "_")}-${state.ballot.slice(0, 4)}.json`;
  get("ballot").value = text;
  show("end");
  window.scrollTo(0, 0);
  get("thanks").focus({ preventScroll: true });
}

get("start").addEventListener("submit", (event) => {
  event.preventDefault();
  const participant = get("code").value.trim();
  if (!participant) return;
  state = { participant, ballot: makeNumber(), answers: {}, seconds: {}, at: 0 };
  begin();
});
get("next").addEventListener("click", goOn);
get("back").addEventListener("click", () => ask(state.at - 1));
get("review").addEventListener("click", () => ask(order.length - 1));
get("forget").addEventListener("click", () => {
  if (!confirm("Have you saved your answers? They are removed from this browser.")) return;
  try { localStorage.removeItem(place); } catch { /* nothing was kept */ }
  state = null;
  get("code").value = "";
  show("intro");
  get("code").focus();
});
document.addEventListener("keydown", (event) => {
  if (get("task").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  const buttons = [...get("candidates").children];
  const last = (state.answers[order[state.at]] ?? []).at(-1);
  if (/^[1-9]$/.test(event.key) && buttons[event.key - 1]) choose(buttons[event.key - 1].dataset.picture);
  else if (event.key === "Backspace" && last) choose(last);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") goOn();
  else return;
  event.preventDefault();
});
window.addEventListener("pagehide", () => { if (state) { countSeconds(); keep(); } });

get("forgetful").hidden = (() => {
  try { localStorage.setItem(`${place} try`, "1"); localStorage.removeItem(`${place} try`); return true; } catch { return false; }
})();
if (state) begin();
