"use strict";

// Strokes are kept in units of the drawing's width, so that they are drawn alike at any size.
const PEN = 0.04;
const SENT = { width: 560, height: 280 };

const UNANSWERED = "The server does not answer. Is mnist100 serve still running?";

class Refusal extends Error {}

const canvas = document.getElementById("canvas");
const seen = document.getElementById("seen");
const answer = document.getElementById("answer");
const message = document.getElementById("message");
const label = document.getElementById("label");
const certainty = document.getElementById("certainty");
const chances = document.getElementById("chances");
const hint = document.getElementById("hint");
const undo = document.getElementById("undo");
const clear = document.getElementById("clear");

const sheet = document.createElement("canvas");
Object.assign(sheet, SENT);

let strokes = [];
let drawing = null; // the pointer that is down
let reading = false;
let changed = false;
let sheets = 0; // how often all was cleared: an answer about an earlier sheet is of no use

function trace(context, width, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = PEN * width;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    const [first, ...rest] = points.map(([x, y]) => [x * width, y * width]);
    // A dot, which a line of no length is not in every browser.
    context.beginPath();
    context.arc(...first, context.lineWidth / 2, 0, 2 * Math.PI);
    context.fill();
    context.beginPath();
    context.moveTo(...first);
    // Through the middles between points, bent towards them: no corners where a hand made none.
    let before = first;
    for (const point of rest) {
      context.quadraticCurveTo(...before, (before[0] + point[0]) / 2, (before[1] + point[1]) / 2);
      before = point;
    }
    context.lineTo(...before);
    context.stroke();
  }
}

function show() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  trace(context, canvas.width, getComputedStyle(canvas).color);
  hint.hidden = strokes.length > 0;
  undo.disabled = clear.disabled = strokes.length === 0;
}

function update() {
  show();
  if (strokes.length === 0) {
    sheets += 1;
    chances.replaceChildren(); // a failure later must not bring this number back
    state("empty", "");
  }
  changed = true;
  if (!reading) read();
}

// One question at a time; while it is out, the drawing may change as often as it likes.
async function read() {
  reading = true;
  answer.ariaBusy = "true";
  try {
    while (changed) {
      changed = false;
      await readOnce();
    }
  } finally {
    reading = false;
    answer.ariaBusy = "false";
  }
}

async function readOnce() {
  if (strokes.length === 0) return;
  const other = emptyHalf();
  if (other) {
    state(unread(), `Now a digit in the ${other} half`);
    return;
  }
  const asked = sheets;
  let found;
  try {
    found = await ask();
  } catch (error) {
    found = { failure: error instanceof Refusal ? error.message : UNANSWERED };
  }
  if (asked !== sheets) return;
  if (found.failure !== undefined) state("failed", found.failure);
  else if (found.label !== undefined) tell(found);
  else state(unread(), `Not read: ${found.reason}`);
}

async function ask() {
  const context = sheet.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, SENT.width, SENT.height);
  trace(context, SENT.width, "#fff");
  // Not toBlob: it waits for the browser to be idle, at times for seconds.
  const [, base64] = sheet.toDataURL("image/png").split(",");
  const response = await fetch("read", {
    method: "POST",
    headers: { "Content-Type": "image/png" },
    body: Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)),
  });
  if (!response.ok) throw new Refusal(`The server answers with error ${response.status}`);
  return response.json();
}

// The half without a stroke, unless one goes across: the server may find two digits in that.
function emptyHalf() {
  const left = strokes.some((points) => points.some(([x]) => x < 0.5));
  const right = strokes.some((points) => points.some(([x]) => x > 0.5));
  return left && right ? "" : left ? "right" : "left";
}

const unread = () => (answer.dataset.state === "empty" ? "empty" : "partial");

function state(name, text) {
  answer.dataset.state = name;
  if (message.textContent !== text) message.textContent = text;
}

function tell(found) {
  const [best] = found.topk;
  state("read", found.state === "number" ? `Read as ${digits(best.label)}` : `Not sure: ${found.reason}`);
  label.textContent = digits(best.label);
  certainty.textContent = `${percent(best.probability)} sure`;
  const pixels = new ImageData(56, 28);
  found.seen.flat().forEach((value, place) => pixels.data.set([value, value, value, 255], 4 * place));
  seen.getContext("2d").putImageData(pixels, 0, 0);
  seen.setAttribute("aria-label", `${digits(best.label)} as the network sees it`);
  chances.replaceChildren(...found.topk.map(row));
}

function row({ label, probability }) {
  const item = document.createElement("li");
  const number = document.createElement("span");
  number.textContent = digits(label);
  const bar = document.createElement("span");
  bar.className = "bar";
  const filled = document.createElement("span");
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = percent(probability);
  item.append(number, bar, share);
  return item;
}

const digits = (label) => String(label).padStart(2, "0");
const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

function points(event) {
  const box = canvas.getBoundingClientRect();
  const events = event.getCoalescedEvents?.() ?? [];
  return (events.length ? events : [event]).map((one) => [
    (one.clientX - box.left) / box.width,
    (one.clientY - box.top) / box.width,
  ]);
}

canvas.addEventListener("pointerdown", (event) => {
  if (drawing !== null || event.button !== 0) return;
  drawing = event.pointerId;
  canvas.setPointerCapture(drawing);
  strokes.push(points(event));
  update();
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== drawing) return;
  if (event.buttons === 0) {
    drawing = null; // it came up where nobody told us
    return;
  }
  strokes.at(-1)?.push(...points(event));
  update();
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
  canvas.addEventListener(name, (event) => {
    if (event.pointerId === drawing) drawing = null;
  });
}

function takeBack() {
  if (drawing !== null) return;
  strokes.pop();
  update();
}
function takeAll() {
  if (drawing !== null) return;
  strokes = [];
  update();
}
undo.addEventListener("click", takeBack);
clear.addEventListener("click", takeAll);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") takeAll();
  else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    takeBack();
  }
});

// As many pixels as the screen has, again whenever that changes.
function fit() {
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  Object.assign(canvas, { width, height: Math.round(width / 2) });
  show();
}
function followRatio() {
  const same = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  same.addEventListener("change", () => (fit(), followRatio()), { once: true });
}
new ResizeObserver(fit).observe(canvas);
followRatio();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
