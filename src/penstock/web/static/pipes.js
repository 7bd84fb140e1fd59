/** A pipe with its valve, seen from the side. */

const TRACK = "#0b4140";
const WATER = "#63e0d4";
const WARM = "#f2a565";
const BEAD = 13;
const MOST = 14;

/** Fit the canvas to its box and give a context whose units are CSS pixels. */
export function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Water runs as fast as tokens are read. Beads before the valve are tokens that nobody has read yet. */
export function drawPipe(canvas, lane) {
  const { context, width, height } = prepare(canvas);
  if (width === 0) return;
  const valve = width - Math.max(46, width * 0.14);
  const middle = height / 2;
  const bore = height * 0.62;
  const shut = lane.state === "parked" || lane.state === "evicted";
  const live = lane.id !== null;
  pipe(context, 0, valve, middle, bore);
  pipe(context, valve, width - valve, middle, bore);
  if (live || lane.speed > 1) {
    water(context, { from: 0, to: valve, middle, bore, phase: lane.phase, strength: 1 });
    const strength = shut ? 0 : Math.min(lane.speed / 12, 1);
    water(context, { from: valve, to: width, middle, bore, phase: lane.phase, strength });
  }
  const spacing = Math.min(BEAD, valve / MOST);
  beads(context, { end: valve - 10, middle, bore, spacing, count: Math.min(lane.ahead, MOST), shut });
  gate(context, valve, middle, height, shut);
}

function pipe(context, x, length, middle, bore) {
  context.fillStyle = TRACK;
  context.beginPath();
  context.roundRect(x, middle - bore / 2, length, bore, bore / 2);
  context.fill();
}

/** Short strokes that drift; three rows, so that it looks like a current and not like a bar. */
function water(context, { from, to, middle, bore, phase, strength }) {
  if (strength <= 0.02) return;
  context.save();
  context.beginPath();
  context.roundRect(from, middle - bore / 2, to - from, bore, bore / 2);
  context.clip();
  context.fillStyle = WATER;
  context.globalAlpha = 0.1 * strength;
  context.fillRect(from, middle - bore / 2, to - from, bore);
  context.strokeStyle = WATER;
  context.lineCap = "round";
  context.lineWidth = Math.max(bore / 12, 1.4);
  for (const [row, pace, dash] of [[-0.26, 1, 16], [0, 1.25, 24], [0.26, 0.85, 12]]) {
    const gap = dash * 2.6;
    context.globalAlpha = (row === 0 ? 0.62 : 0.38) * strength;
    context.beginPath();
    for (let x = from - gap + ((phase * pace + row * 50) % gap); x < to; x += gap) {
      context.moveTo(x, middle + row * bore);
      context.lineTo(x + dash, middle + row * bore);
    }
    context.stroke();
  }
  context.restore();
}

function beads(context, { end, middle, bore, spacing, count, shut }) {
  context.fillStyle = shut ? WARM : WATER;
  const radius = Math.min(bore * 0.26, spacing * 0.4);
  for (let i = 0; i < count; i += 1) {
    context.beginPath();
    context.arc(end - radius - i * spacing, middle, radius, 0, 7);
    context.fill();
  }
}

function gate(context, x, middle, height, shut) {
  context.strokeStyle = WARM;
  context.lineCap = "round";
  context.lineWidth = 4;
  context.beginPath();
  context.moveTo(x, 2);
  context.lineTo(x, shut ? height - 2 : middle - height * 0.3);
  context.stroke();
}
