"use strict";
// The flame graph: an icicle from the root down, drawn on one canvas. Names come from the profile
// and are untrusted: they are only ever drawn by fillText or set as textContent.
(() => {
  const profile = JSON.parse(document.getElementById("profile").textContent);
  const canvas = document.getElementById("graph");
  const pen = canvas.getContext("2d");
  const detail = document.getElementById("detail");
  const matched = document.getElementById("matched");
  const search = document.getElementById("search");
  const rowHeight = 18;
  // Packed: parents count back from their node, own times are multiples of a common unit, and
  // each frame has a letter for its kind and a number for its module.
  const count = profile.up.length;
  const parent = profile.up.map((up, i) => i - up);
  const self = profile.self.map((times) => times * profile.unit);
  const moduleOf = (i) => profile.modules[profile.module[profile.frame[i]]];

  const total = new Float64Array(count);
  const depth = new Uint16Array(count);
  const children = Array.from({ length: count }, () => []);
  for (let i = 0; i < count; i++) total[i] = self[i];
  for (let i = count - 1; i > 0; i--) total[parent[i]] += total[i];
  for (let i = 1; i < count; i++) {
    depth[i] = depth[parent[i]] + 1;
    children[parent[i]].push(i);
  }
  const nameOf = (i) => i === 0 ? "all" : profile.names[profile.frame[i]] || moduleOf(i);
  for (const list of children) list.sort((a, b) => nameOf(a) < nameOf(b) ? -1 : 1);
  const left = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let x = left[i];
    for (const child of children[i]) {
      left[child] = x;
      x += total[child];
    }
  }
  const rows = count ? depth.reduce((most, d) => Math.max(most, d), 0) + 1 : 1;

  let zoomed = 0;       // the node that fills the width
  let pattern = null;   // what is searched for
  let chosen = -1;      // by the keyboard
  let boxes = [];       // what was drawn: [x, y, width, node]

  const hash = (text) => {
    let h = 2166136261;
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
    return h >>> 0;
  };
  const colour = (i) => {
    if (pattern && pattern.test(nameOf(i))) return "#b04fd8";
    if (i === 0) return "#d9d9d9";
    const shade = hash(nameOf(i)) % 24;
    const kind = profile.kinds[profile.frame[i]];
    if (kind === "k") return `hsl(${205 + shade / 2} 55% ${70 + shade / 3}%)`;
    if (kind === "s") return "#c8c8c8";
    return `hsl(${22 + shade} 85% ${66 + shade / 3}%)`;
  };
  const percent = (part) => total[0] ? (100 * part / total[0]).toFixed(2) + " %" : "0 %";

  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = rows * rowHeight + 30;
    canvas.style.height = height + "px";
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    boxes = [];
    const from = left[zoomed];
    const scale = total[zoomed] ? width / total[zoomed] : 0;
    const isAncestor = new Set();
    for (let i = zoomed; i > 0; i = parent[i]) isAncestor.add(parent[i]);
    const waiting = count ? [0] : [];  // no recursion: a profile may be deep
    while (waiting.length) {
      const i = waiting.pop();
      const above = isAncestor.has(i);
      const x = above ? 0 : Math.max(0, (left[i] - from) * scale);
      const w = above ? width : total[i] * scale;
      if (w < 0.3) continue;
      const y = depth[i] * rowHeight;
      pen.globalAlpha = above ? 0.5 : 1;
      pen.fillStyle = colour(i);
      pen.fillRect(x, y, Math.max(w - 0.5, 0.3), rowHeight - 1);
      if (i === chosen) {
        pen.strokeStyle = "#111";
        pen.strokeRect(x + 1, y + 1, Math.max(w - 2.5, 1), rowHeight - 3);
      }
      boxes.push([x, y, w, i]);
      if (w > 30) {
        const room = Math.floor((w - 6) / 6.2);
        const name = nameOf(i);
        pen.fillStyle = "#111";
        pen.fillText(name.length > room ? name.slice(0, Math.max(room - 1, 1)) + "…" : name, x + 3, y + rowHeight / 2);
      }
      for (const child of children[i]) {
        if (!above || isAncestor.has(child) || child === zoomed) waiting.push(child);
      }
    }
    pen.globalAlpha = 1;
    canvas.dataset.boxes = String(boxes.length);
    canvas.dataset.zoomed = nameOf(zoomed);
  };

  const find = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const hit = boxes.find(([bx, by, bw]) => x >= bx && x < bx + bw && y >= by && y < by + rowHeight);
    return hit ? hit[3] : -1;
  };
  const seconds = (ns) => (ns / 1e9).toFixed(3) + " s";
  const describe = (i) => {
    if (i < 0) { detail.textContent = ""; return; }
    const module = i > 0 ? moduleOf(i) : "";
    detail.textContent = `${nameOf(i)}${module ? " (" + module + ")" : ""}: ${seconds(total[i])}, ${percent(total[i])}, own ${seconds(self[i])}`;
  };
  canvas.addEventListener("mousemove", (event) => describe(find(event)));
  const zoom = (i) => { zoomed = i; draw(); };
  canvas.addEventListener("click", (event) => { const i = find(event); if (i >= 0) zoom(i); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") zoom(0); });
  const beside = (i, step) => {
    const row = i > 0 ? children[parent[i]] : [0];
    return row[row.indexOf(i) + step] ?? i;
  };
  const moves = {
    ArrowUp: (i) => i > 0 ? parent[i] : 0,
    ArrowDown: (i) => children[i].reduce((a, b) => total[b] > total[a] ? b : a, children[i][0] ?? i),
    ArrowLeft: (i) => beside(i, -1),
    ArrowRight: (i) => beside(i, 1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key in moves) {
      chosen = chosen < 0 ? zoomed : moves[event.key](chosen);
      describe(chosen);
      draw();
    } else if (event.key === "Enter" && chosen >= 0) {
      zoom(chosen);
    } else {
      return;
    }
    event.preventDefault();
  });
  document.getElementById("reset").addEventListener("click", () => zoom(0));

  // The share of the total below frames that match; a match inside a match counts once.
  const matchedShare = () => {
    let sum = 0;
    const waiting = count ? [0] : [];
    while (waiting.length) {
      const i = waiting.pop();
      if (i > 0 && pattern.test(nameOf(i))) sum += total[i];
      else for (const child of children[i]) waiting.push(child);
    }
    return sum;
  };
  search.addEventListener("input", () => {
    pattern = null;
    matched.textContent = "";
    if (search.value) {
      try {
        pattern = new RegExp(search.value, "i");
        matched.textContent = "matched " + percent(matchedShare());
      } catch (error) {
        matched.textContent = "not a regular expression: " + error.message;
      }
    }
    draw();
  });

  document.getElementById("title").textContent = profile.title;
  document.getElementById("quality").textContent = profile.quality;
  window.addEventListener("resize", draw);
  draw();
})();
