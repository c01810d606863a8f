
"use strict";
// What the user draws over the picture: arrows, and a brush that freezes, frees or makes holes. The main script calls
// showMotion (a new state), showDrawn (an answer) and paintDrawing (a new size).
const MOST = { vectors: 64, strokes: 64, points: 500, bytes: 60000 }, SHORTEST = 0.008; // of an arrow
const nothing = () => ({ vectors: [], strokes: [] });
let drawn = nothing(), before = [], tool = "arrow", gesture = null, waiting = 0, isStale = false, drawnScene = "";

const isDrawing = () => document.body.classList.contains("drawing");
const round = value => Math.round(value * 1e4) / 1e4;
const copyOf = hints => JSON.parse(JSON.stringify(hints));

function toggleDrawing(isOn) {
  gesture = null;
  document.body.classList.toggle("drawing", isOn);
  document.getElementById("motion").classList.toggle("on", isOn);
  document.getElementById("draw").setAttribute("aria-pressed", isOn);
  document.getElementById("draw").textContent = isOn ? "done" : "draw";
  paintDrawing();
}

function chooseTool(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
}

function showMotion(now) {
  document.getElementById("motion").hidden = !now.hints;
  if (!now.hints) { if (isDrawing()) toggleDrawing(false); return; }
  for (const button of document.querySelectorAll("[data-tool]")) button.hidden = !now.tools.includes(button.dataset.tool);
  if (!now.tools.includes(tool)) chooseTool(now.tools[0]);
  const moves = now.tools.includes("arrow");
  document.getElementById("motion-title").textContent = moves ? "Motion" : "Holes";
  for (const id of ["save-hints", "export-hints"]) document.getElementById(id).hidden = !moves;
  if (now.on_air !== drawnScene) { drawnScene = now.on_air; before = []; gesture = null; }
  if (!waiting) drawn = copyOf(now.hints);
  document.getElementById("motion-why").textContent = now.saved.includes(now.on_air) ? `the drawing of ${now.on_air} is saved for this show` : "";
  paintDrawing();
}

// Sends the drawing; one at a time, so that a later one is not overtaken by an earlier one.
function sendDrawing() {
  if (waiting) { isStale = true; return; }
  if (!socket || socket.readyState !== 1) { say("not connected to the show"); return; }
  send("draw", { hints: drawn });
  waiting = number;
}

// The connection is lost, and with it the answer to a drawing.
function forgetAnswers() { waiting = 0; isStale = false; }

function showDrawn(message) {
  if (message.id !== waiting) return;
  waiting = 0;
  if (isStale) { isStale = false; sendDrawing(); return; }
  if (message.error) { before.pop(); drawn = copyOf(state.hints || nothing()); }
  if (message.ok) drawn = copyOf(message.done.hints);
  paintDrawing();
}

function change(edit) {
  const was = copyOf(drawn), next = copyOf(drawn);
  edit(next);
  if (next.vectors.length > MOST.vectors || next.strokes.length > MOST.strokes || JSON.stringify(next).length > MOST.bytes) {
    say(`a drawing has at most ${MOST.vectors} arrows and ${MOST.strokes} strokes: undo some`);
    return;
  }
  before.push(was);
  drawn = next;
  sendDrawing();
  paintDrawing();
}

function undoDrawing() {
  if (before.length) drawn = before.pop();
  else if (drawn.strokes.length || drawn.vectors.length) (drawn.strokes.length ? drawn.strokes : drawn.vectors).pop(); // of an earlier page
  else return;
  sendDrawing();
  paintDrawing();
}

function placeOf(event) {
  const box = document.getElementById("drawing").getBoundingClientRect(), within = value => round(Math.min(1, Math.max(0, value)));
  return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
}

function beginStroke(event) {
  if (!event.isPrimary || event.button > 0) return;
  event.preventDefault();
  event.currentTarget.setPointerCapture(event.pointerId);
  gesture = { kind: tool, radius: Number(document.getElementById("brush").value), points: [placeOf(event)] };
  paintDrawing();
}

function goOn(event) {
  if (!gesture || !event.isPrimary) return;
  const place = placeOf(event), points = gesture.points;
  if (gesture.kind === "arrow") gesture.points = [points[0], place];
  else {
    const [x, y] = points[points.length - 1], height = size[1] / size[0];
    if (Math.hypot(place[0] - x, (place[1] - y) * height) >= gesture.radius / 3) points.push(place);
    if (points.length >= MOST.points) gesture.points = points.filter((_, index) => index % 2 === 0);
  }
  paintDrawing();
}

function endStroke(event) {
  if (!gesture || !event.isPrimary) return;
  goOn(event);
  const { kind, radius, points } = gesture;
  gesture = null;
  const [x, y] = points[0], [endX, endY] = points[points.length - 1];
  if (kind !== "arrow") change(next => next.strokes.push({ kind, radius, points }));
  else if (Math.hypot(endX - x, endY - y) >= SHORTEST) change(next => next.vectors.push([x, y, round(endX - x), round(endY - y)]));
  else paintDrawing();
}

function paintDrawing() {
  const canvas = document.getElementById("drawing");
  if (!isDrawing()) return;
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight, pen = canvas.getContext("2d");
  canvas.width = width * ratio; canvas.height = height * ratio;
  pen.scale(ratio, ratio);
  pen.lineCap = pen.lineJoin = "round";
  const current = gesture || { kind: "", points: [] };
  for (const stroke of [...drawn.strokes, ...(current.kind && current.kind !== "arrow" ? [current] : [])]) {
    pen.strokeStyle = { still: "#5aa2ff70", moving: "#6fd6b470", hole: "#ff7a6a70" }[stroke.kind];
    pen.lineWidth = 2 * stroke.radius * width;
    pen.beginPath();
    for (const [x, y] of stroke.points) pen.lineTo(x * width, y * height);
    if (stroke.points.length === 1) pen.lineTo(stroke.points[0][0] * width + .01, stroke.points[0][1] * height); // a dot
    pen.stroke();
  }
  const begun = current.kind === "arrow" && current.points.length > 1 ? [[...current.points[0], current.points[1][0] - current.points[0][0], current.points[1][1] - current.points[0][1]]] : [];
  for (const [x, y, right, down] of [...drawn.vectors, ...begun]) {
    const end = [(x + right) * width, (y + down) * height], angle = Math.atan2(down * height, right * width), side = Math.min(14, Math.hypot(right * width, down * height) / 2);
    for (const [colour, thick] of [["#000a", 6], ["#fff", 3]]) {
      pen.strokeStyle = colour; pen.lineWidth = thick;
      pen.beginPath();
      pen.moveTo(x * width, y * height); pen.lineTo(...end);
      for (const turn of [2.6, -2.6]) { pen.moveTo(...end); pen.lineTo(end[0] + side * Math.cos(angle + turn), end[1] + side * Math.sin(angle + turn)); }
      pen.stroke();
    }
  }
}

function exportDrawing() {
  const kept = { ...drawn, strokes: drawn.strokes.filter(stroke => stroke.kind !== "hole") }; // holes belong to no scene
  const link = document.createElement("a"), name = drawnScene.replace(/[^\w-]+/g, "-").slice(0, 40) || "scene";
  link.href = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 1)], { type: "application/json" }));
  link.download = `hints-${name}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.getElementById("draw").onclick = () => toggleDrawing(!isDrawing());
document.getElementById("undo").onclick = undoDrawing;
document.getElementById("clear").onclick = () => change(next => Object.assign(next, nothing()));
document.getElementById("save-hints").onclick = () => send("save_hints", {});
document.getElementById("export-hints").onclick = exportDrawing;
for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => chooseTool(button.dataset.tool);
for (const [name, listener] of [["pointerdown", beginStroke], ["pointermove", goOn], ["pointerup", endStroke], ["pointercancel", () => { gesture = null; paintDrawing(); }]])
  document.getElementById("drawing").addEventListener(name, listener);
document.addEventListener("keydown", event => {
  if (event.target.matches("textarea, input[type=number], select")) return;
  if (isDrawing() && (event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undoDrawing(); }
  if (event.key === "m" && !event.ctrlKey && !event.metaKey && !event.altKey && !document.getElementById("motion").hidden) toggleDrawing(!isDrawing());
  if (event.key === "Escape" && isDrawing()) toggleDrawing(false);
});
