// The N x N similarity as a heat map, in colours that differ in brightness as well (cividis).
const STOPS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];

function colour(share) {
  const at = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[low].map((part, i) => Math.round(part + (STOPS[low + 1][i] - part) * (at - low)));
}

export class Matrix {
  constructor() {
    for (const id of ["matrix", "scale", "low", "high", "cell"]) this[id] = document.getElementById(id);
    this.at = null;
    const scale = this.scale.getContext("2d");
    for (let x = 0; x < 120; x++) { scale.fillStyle = `rgb(${colour(x / 119)})`; scale.fillRect(x, 0, 1, 10); }
    for (const name of ["pointermove", "pointerdown"]) { // a finger that taps does not move
      this.matrix.addEventListener(name, (event) => {
        const box = this.matrix.getBoundingClientRect();
        this.#point((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
      });
    }
    this.matrix.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || !this.values) return;
      event.preventDefault();
      const last = this.order.length - 1;
      this.at = (this.at ?? [0, 0]).map((place, i) => Math.min(last, Math.max(0, place + step[i])));
      this.#draw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.values && this.#draw());
  }

  // values: rows in index order; order: candidates as rows from the top
  show(values, order) {
    this.values = values;
    this.order = order ?? values.map((_, i) => i);
    this.at = null;
    this.#draw();
  }

  clear() {
    this.values = null;
    this.matrix.getContext("2d").clearRect(0, 0, this.matrix.width, this.matrix.height);
    this.low.textContent = this.high.textContent = this.cell.textContent = "";
  }

  #point(down, right) {
    if (!this.values) return;
    const n = this.order.length, size = n + 1;
    const place = [Math.floor(down * size) - 1, Math.floor(right * size) - 1];
    if (place.some((one) => one < 0 || one >= n)) return;
    this.at = place;
    this.#draw();
  }

  #draw() {
    const n = this.order.length, size = 620, side = size / (n + 1), context = this.matrix.getContext("2d");
    this.matrix.width = this.matrix.height = size;
    const others = this.values.flatMap((row, i) => row.filter((_, k) => k !== i));
    const low = others.length ? Math.min(...others) : 0, high = others.length ? Math.max(...others) : 1;
    const text = getComputedStyle(document.body).color;
    context.font = `${Math.max(9, Math.min(22, side * 0.36))}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    this.order.forEach((i, row) => {
      if (n <= 32) {
        context.fillStyle = text;
        context.fillText(`#${i}`, side / 2, side * (row + 1.5));
        context.fillText(`#${i}`, side * (row + 1.5), side / 2);
      }
      this.order.forEach((k, column) => {
        const value = this.values[i][k], share = high > low ? (value - low) / (high - low) : 0.5;
        const [x, y] = [side * (column + 1), side * (row + 1)];
        if (i !== k) {
          context.fillStyle = `rgb(${colour(share)})`;
          context.fillRect(x, y, side - 1, side - 1);
        }
        if (n <= 10 && i !== k) {
          context.fillStyle = share > 0.55 ? "#000" : "#fff";
          context.fillText(value.toFixed(2).replace("0.", "."), x + side / 2, y + side / 2);
        }
        if (this.at && this.at[0] === row && this.at[1] === column) {
          context.strokeStyle = text;
          context.lineWidth = 4;
          context.strokeRect(x + 1, y + 1, side - 3, side - 3);
        }
      });
    });
    this.low.textContent = low.toFixed(3);
    this.high.textContent = high.toFixed(3);
    this.matrix.setAttribute("aria-label", `Similarity of ${n} candidates, from ${low.toFixed(3)} to ${high.toFixed(3)}; arrow keys read single cells`);
    if (this.at) {
      const [i, k] = this.at.map((place) => this.order[place]);
      this.cell.textContent = i === k ? `#${i}` : `#${i} and #${k}: ${this.values[i][k].toFixed(3)}`;
    } else this.cell.textContent = "";
  }
}
