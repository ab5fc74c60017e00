"use strict";
// The script of the report: links, filter, sort buttons, labels of the timeline, and the page of each test.
// Text that comes from tests is always inserted as text, never as markup.
(function () {
  const $ = (id) => document.getElementById(id);
  const page = $("page"), main = $("main"), table = $("all");
  const heading = document.querySelector(".top"), contents = document.querySelector(".contents");
  const title = document.title;
  const names = [];
  let details = null, charts = [], returnTo = 0;

  function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  async function unpack() {
    if (details) return details;
    const text = atob($("details").textContent.trim());
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    details = expanded(await new Response(stream).json());
    return details;
  }

  // Turn columns into one object for each test, with its name, outcome and profile from the table; lanes with times in seconds.
  function expanded(packed) {
    const tests = names.map(([outcome, name, profile]) => ({ outcome, name, profile, usage: {}, attempts: [] }));
    const spread = (columns, onto) => { for (const [key, values] of Object.entries(columns)) values.forEach((value, i) => { if (value !== null) onto(tests[i])[key] = value; }); };
    spread(packed.tests, (test) => test);
    spread(packed.usage, (test) => test.usage);
    let next = 0;
    for (const test of tests) {
      const count = test.attempts;
      test.attempts = [];
      for (let i = 0; i < count; i += 1, next += 1) test.attempts.push(packed.attempts.map((column) => column[next]));
      if (test.history) test.history[0] = test.history[0].map((run) => packed.runs[run]);
    }
    const [unit, ...flatLanes] = packed.lanes;
    const lanes = flatLanes.map((flat) => {
      const blocks = [];
      for (let i = 0, end = 0; i < flat.length; i += 3) { const start = end + flat[i]; end = start + flat[i + 1]; blocks.push([start * unit, end * unit, flat[i + 2]]); }
      return blocks;
    });
    return { tests, lanes };
  }

  // ---------------------------------------------------------------- figures

  function bytes(n) {
    if (n < 1024) return n.toFixed(0) + "B";
    let unit = -1;
    do { n /= 1024; unit += 1; } while (n >= 1023.5 && unit < 5);
    return (n < 9.95 ? n.toFixed(1).replace(/\.0$/, "") : n.toFixed(0)) + "KMGTPE"[unit];
  }
  function seconds(s) {
    if (s < 0.0005) return "<1ms";
    if (s < 0.0995) return (s * 1000).toFixed(0) + "ms";
    if (s < 9.9995) return s.toFixed(3) + "s";
    if (s < 99.95) return s.toFixed(1) + "s";
    const whole = Math.round(s), rest = String(whole % 60).padStart(2, "0"), minutes = Math.floor(whole / 60);
    return minutes < 60 ? minutes + "m" + rest + "s" : Math.floor(minutes / 60) + "h" + String(minutes % 60).padStart(2, "0") + "m";
  }
  const percent = (r) => (r * 100).toFixed(r >= 0.1 || r === 0 ? 0 : 1) + " %";
  const tone = (outcome) => (outcome === "passed" || outcome === "skipped" ? "good" : "bad");
  const moment = (s) => new Date(s * 1000).toISOString().slice(0, 16).replace("T", " ");

  // ---------------------------------------------------------------- the table of all tests

  const rows = () => Array.from(table.tBodies[0].rows);

  function prepareTable() {
    const outcomes = new Map(), profiles = new Map(), all = rows();
    for (const [number, row] of all.entries()) {
      row.id = "t" + number;
      names.push([0, 1, 2].map((column) => row.cells[column].textContent.trim()));
      row.cells[1].scope = "row";
      const head = row.cells[1], link = h("a", { href: "#" + row.id }, h("bdi", {}, head.textContent.trim()));
      head.replaceChildren(link);
      for (const [seen, cell] of [[outcomes, row.cells[0]], [profiles, row.cells[2]]]) {
        const word = cell.textContent.trim();
        seen.set(word, (seen.get(word) || 0) + 1);
      }
    }
    const form = $("filter"), fields = form.elements;
    const offer = (select, seen) => {
      for (const [word, count] of [...seen].sort((a, b) => b[1] - a[1])) select.append(h("option", { value: word }, word + " (" + count + ")"));
    };
    offer(fields.outcome, outcomes);
    offer(fields.profile, profiles);
    const apply = () => {
      const words = fields.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows()) {
        const name = row.cells[1].textContent.toLowerCase();
        const fits = words.every((word) => name.includes(word))
          && (!fields.outcome.value || row.cells[0].textContent.trim() === fields.outcome.value)
          && (!fields.profile.value || row.cells[2].textContent.trim() === fields.profile.value)
          && (!fields.broken.checked || row.hasAttribute("data-v"));
        row.hidden = !fits;
        shown += fits;
      }
      $("matching").textContent = shown === all.length ? all.length + " tests" : shown + " of " + all.length + " tests";
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
    prepareSorting(all);
  }

  // With 2,000 rows, layout takes most of the time. report.css makes each row a grid of its own, so that rows outside
  // of the viewport are not laid out. The roles restore the table's structure for screen readers.
  function prepareSorting(all) {
    const heads = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0], compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const keys = heads.map(() => null);
    const keysOf = (column) => (column < 3 ? names.map((texts) => texts[column]) : all.map((row) => (row.cells[column] && row.cells[column].textContent ? Number(row.cells[column].textContent) : null)));
    let order = all.map((_, number) => number);
    const sort = (column) => {
      const head = heads[column], first = column < 3 ? "ascending" : "descending", turn = head.getAttribute("aria-sort") === first;
      const up = (first === "ascending") !== turn, sign = up ? 1 : -1;
      const key = keys[column] || (keys[column] = keysOf(column));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const known = order.filter((number) => key[number] !== null), unknown = order.filter((number) => key[number] === null);
      known.sort(column < 3 ? (a, b) => sign * compare(key[a], key[b]) : (a, b) => sign * (key[a] - key[b]));
      order = [...known, ...unknown];
      body.replaceChildren(...order.map((number) => all[number]));
    };
    for (const [column, head] of heads.entries()) {
      const button = h("button", { type: "button" });
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(column));
      head.append(button);
      head.setAttribute("role", "columnheader");
    }
    table.setAttribute("role", "table");
    for (const group of [table.tHead, body]) group.setAttribute("role", "rowgroup");
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      for (const cell of row.cells) if (!cell.hasAttribute("role")) cell.setAttribute("role", cell.scope === "row" ? "rowheader" : "cell");
    }
    table.classList.add("grid");
  }

  // ---------------------------------------------------------------- the timeline

  function prepareTimeline() {
    const svg = document.querySelector(".timeline"), output = $("under");
    if (!svg) return;
    async function at(event) {
      const { tests, lanes } = await unpack();
      const box = svg.getBoundingClientRect();
      const end = Math.max(...lanes.map((blocks) => (blocks.length ? blocks[blocks.length - 1][1] : 0)));
      const time = ((event.clientX - box.left) / box.width) * end, slack = (end / box.width) * 2;
      const lane = Math.min(lanes.length - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * lanes.length)));
      const block = lanes[lane].find(([start, stop]) => time >= start - slack && time <= stop + slack);
      return block && tests[block[2]] ? { lane, start: block[0], end: block[1], number: block[2], test: tests[block[2]] } : null;
    }
    svg.addEventListener("mousemove", async (event) => {
      const found = await at(event);
      output.textContent = found ? "lane " + (found.lane + 1) + ", from " + seconds(found.start) + " for " + seconds(found.end - found.start) + ": " + found.test.name : "";
    });
    svg.addEventListener("click", async (event) => {
      const found = await at(event);
      if (found) location.hash = "#t" + found.number;
    });
  }

  // ---------------------------------------------------------------- charts

  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

  // Decode [highest, width, text], which details.py's `encoded_series` made, into values.
  function decodedSeries(packed, known) {
    if (!packed || !packed.length) return [];
    const [highest, width, text] = packed, top = highest === null ? known : highest, values = [];
    for (let i = 0; i < text.length; i += width) {
      let number = 0;
      for (let k = i; k < i + width; k += 1) number = number * 64 + DIGITS.indexOf(text[k]);
      values.push(text[i] === "." ? null : (number / (64 ** width - 1)) * top);
    }
    return values;
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const BINARY = Array.from({ length: 44 }, (_, i) => 2 ** i);

  const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

  // `times`: for a history with an evenly spaced x, the time of each point. Without it, x is in seconds.
  function chart(place, { label, data, series, times, values, top, whole }) {
    const day = (at) => (Number.isInteger(at) && times[at] !== undefined ? moment(times[at]).slice(5, times[times.length - 1] - times[0] > 172800 ? 10 : 16) : "");
    const axis = { stroke: () => colour("--quiet"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const options = {
      width: place.clientWidth || 400, height: 190, legend: { live: true, markers: { show: false } }, padding: [8, times ? 40 : 8, 0, 0],
      cursor: { y: false, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (u, low, high) => [0, Math.max(high, top || 0) * 1.08 || 1] } },
      axes: [{ ...axis, space: times ? 90 : 60, size: 28, incrs: times ? WHOLE : undefined, values: (u, ticks) => ticks.map((t) => (times ? day(t) : t + " s")) }, { ...axis, size: 56, incrs: values === bytes ? BINARY : whole ? WHOLE : undefined, values: (u, ticks) => ticks.map((t) => (t === 0 ? "0" : values(t))) }],
      series: [{ label: times ? "run" : "at", value: (u, v) => (v === null || v === undefined ? "" : times ? moment(times[v]) : v.toFixed(2) + " s") },
        ...series.map((s) => ({ label: s.label, stroke: () => colour(s.colour), fill: s.fill ? () => colour(s.colour) + "22" : undefined, width: 1.5, spanGaps: true, points: { show: Boolean(times), size: 5, fill: () => colour(s.colour) }, value: (u, v) => (v === null || v === undefined ? "" : values(v)) }))],
    };
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", label);
    charts.push([place, new uPlot(options, data, place)]);
  }

  function sampleCharts(test) {
    if (!test.samples) return [];
    const usage = test.usage, length = test.samples[0] === null ? test.attempts[test.attempts.length - 1][4] : test.samples[0];
    const memory = decodedSeries(test.samples[1], usage.memory_peak_bytes), cpu = decodedSeries(test.samples[2], usage.cpu_user_seconds + usage.cpu_system_seconds), tasks = decodedSeries(test.samples[3]);
    const count = Math.max(memory.length, cpu.length, tasks.length), x = Array.from({ length: count }, (_, i) => (length * i) / (count - 1));
    const holders = h("div", { class: "charts" });
    const add = (heading, options) => {
      const place = h("div", { class: "chart" });
      holders.append(h("div", {}, h("h3", {}, heading), place));
      charts.push([place, options]);
    };
    const known = memory.filter((v) => v !== null);
    if (known.length > 1) add("Memory", { data: [x, memory], values: bytes, series: [{ label: "memory", colour: "--accent", fill: true }], label: "Memory over " + seconds(length) + ": highest sample " + bytes(Math.max(...known)) });
    const used = cpu.map((v, i) => (i === 0 || v === null || cpu[i - 1] === null ? null : Math.max(0, (v - cpu[i - 1]) / (x[i] - x[i - 1]))));
    const busy = used.filter((v) => v !== null);
    if (busy.length > 1) add("CPUs in use", { data: [x, used], values: (v) => v.toFixed(2), top: 1, series: [{ label: "CPUs", colour: "--good", fill: true }], label: "CPUs in use over " + seconds(length) + ": at most " + Math.max(...busy).toFixed(2) + " of " + test.limits[2] });
    const some = tasks.filter((v) => v !== null);
    if (some.length > 1 && Math.max(...some) > 1) add("Processes and threads", { data: [x, tasks], whole: true, values: (v) => v.toFixed(0), series: [{ label: "tasks", colour: "--near" }], label: "Processes and threads over " + seconds(length) + ": at most " + Math.max(...some) });
    return holders.childNodes.length ? [h("h2", {}, "Usage over time"), holders] : [];
  }

  function historyCharts(test) {
    if (!test.history) return [];
    const [began, outcomes] = test.history, took = decodedSeries(test.history[2]), memory = decodedSeries(test.history[3]), x = began.map((_, i) => i), first = began[0];
    const holders = h("div", { class: "charts" });
    for (const [heading, values, unit, tint] of [["Duration of each attempt", took, seconds, "--good"], ["Memory of each attempt", memory, bytes, "--accent"]]) {
      const known = values.filter((v) => v !== null), place = h("div", { class: "chart" });
      if (known.length < 2) continue;
      holders.append(h("div", {}, h("h3", {}, heading), place));
      charts.push([place, { data: [x, values], times: began, values: unit, series: [{ label: heading.split(" ")[0].toLowerCase(), colour: tint }], label: heading + ": from " + unit(Math.min(...known)) + " to " + unit(Math.max(...known)) + ", last " + unit(known[known.length - 1]) }]);
    }
    const bad = outcomes.filter((o) => tone(o) === "bad").length;
    return [h("h2", {}, "History"), h("p", { class: "lead" }, "The last " + outcomes.length + " attempts, since " + moment(first) + " UTC" + (bad ? "; " + bad + " of them did not pass" : "; all passed") + "."), holders];
  }

  function drawCharts() {
    const wanted = charts;
    charts = [];
    for (const [place, options] of wanted) chart(place, options);
  }
  addEventListener("resize", () => charts.forEach(([place, drawn]) => drawn.setSize && drawn.setSize({ width: place.clientWidth, height: 190 })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(([, drawn]) => drawn.redraw && drawn.redraw(false, true)));

  // ---------------------------------------------------------------- a test's page

  const FIGURES = [
    ["memory_peak_bytes", "Memory, peak", bytes], ["memory_floor_bytes", "Memory charged before the test", bytes], ["page_cache_bytes", "Page cache charged during the test", bytes], ["anon_peak_bytes", "Anonymous memory, peak", bytes],
    ["file_peak_bytes", "Page cache, peak", bytes], ["shmem_peak_bytes", "Shared memory and tmpfs, peak", bytes], ["cpu_user_seconds", "CPU, user", seconds],
    ["cpu_system_seconds", "CPU, system", seconds], ["throttled_seconds", "Throttled by the CPU limit", seconds], ["pids_peak", "Processes and threads, peak", String],
    ["oom_kills", "OOM kills", String], ["read_bytes", "Read from disk", bytes], ["write_bytes", "Written to disk", bytes],
  ];

  function figuresOf(test) {
    const list = h("dl", { class: "facts" }), [memory, timeout, cpus, tasks] = test.limits, usage = test.usage || {};
    const last = test.attempts[test.attempts.length - 1];
    const add = (name, value) => list.append(h("div", { class: "pair" }, h("dt", {}, name), h("dd", {}, value)));
    add("Duration", seconds(last[4]) + " of " + seconds(timeout) + " (" + percent(last[4] / timeout) + ")");
    for (const [key, name, unit] of FIGURES) {
      if (!(key in usage)) continue;
      const value = usage[key], limit = key === "memory_peak_bytes" ? memory : key === "pids_peak" ? tasks : 0;
      const bound = (usage.at_most || "").split(" ").includes(key) ? "≤" : (usage.at_least || "").split(" ").includes(key) ? "≥" : "";
      if (typeof value === "string") add(name, "– (" + value + ")");
      else add(name, bound + unit(value) + (limit ? " of " + unit(limit) + " (" + percent(value / limit) + ")" : ""));
    }
    add("CPU limit", String(cpus));
    return list;
  }

  function tableOf(caption, heads, lines) {
    const head = h("tr", {}, heads.map((text) => h("th", { scope: "col", class: text.endsWith("#") ? "num" : "" }, text.replace("#", ""))));
    const body = lines.map((line) => h("tr", {}, line.map((cell, i) => h(i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : { class: heads[i].endsWith("#") ? "num" : "" }, h("bdi", {}, cell)))));
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), h("tbody", {}, body)));
  }

  function attemptsOf(test) {
    const lines = test.attempts.map((a) => [(a[0] > 1 ? a[0] + "." : "") + a[1], a[2], a[3], seconds(a[4]), seconds(a[5]), seconds(a[6]), a[7] === 1 ? "new" : "reused, test " + a[7], a[8], a[9] || ""]);
    const parts = [h("h2", {}, "Attempts"), tableOf("Attempts of this run", ["Attempt", "Outcome", "Profile", "Duration#", "Queued#", "Set-up#", "Container", "Launch", "Message"], lines)];
    const number = details.tests.indexOf(test);
    for (const blocks of details.lanes) {
      const at = blocks.findIndex((block) => block[2] === number), before = at > 0 ? details.tests[blocks[at - 1][2]] : null;
      if (before && test.attempts[0][5] >= 0.005) parts.push(h("p", { class: "note" }, "Previous test in its lane: ", h("a", { class: "test", href: "#t" + blocks[at - 1][2] }, h("bdi", {}, before.name)), "."));
    }
    return parts;
  }

  function sections(test) {
    const parts = [];
    if (test.violations) parts.push(h("h2", {}, "Violations"), h("ul", { class: "plain" }, test.violations.map(([kind, severity, message]) => h("li", {}, h("span", { class: "severity " + severity }, kind), " ", h("bdi", {}, message)))));
    const [count, ...failed] = test.cases;
    if (failed.length) parts.push(h("h2", {}, "Failed cases"), tableOf("Failed cases", ["Case", "Outcome", "Message"], failed));
    else if (count) parts.push(h("p", { class: "note" }, count + (count === 1 ? " case" : " cases") + ", none failed."));
    parts.push(...sampleCharts(test), h("h2", {}, "Usage of the last attempt"), figuresOf(test), ...attemptsOf(test), ...historyCharts(test));
    for (const [key, name] of [["out", "Standard output (end)"], ["err", "Standard error (end)"]]) if (test[key]) parts.push(h("h2", {}, name), h("pre", { tabindex: "0", role: "region", "aria-label": name }, test[key]));
    return parts;
  }

  async function open(number) {
    let test = null, problem = "";
    try { test = (await unpack()).tests[number]; } catch (error) { problem = String(error); }
    const back = h("a", { class: "back", href: "#tests" }, "← Back to the report");
    charts = [];
    if (!test) {
      page.replaceChildren(back, h("p", {}, problem ? "This browser cannot unpack the pages of tests: " + problem : "There is no such test in this report."));
    } else {
      const name = h("h1", { tabindex: "-1", class: tone(test.outcome) }, h("bdi", {}, test.name));
      const facts = [test.outcome + (test.before && test.before !== test.outcome ? ", was " + test.before : ""), "profile " + test.profile + " (" + test.reason + ")", "suite " + test.suite, "run " + test.run];
      page.replaceChildren(back, name, h("p", { class: "when" }, facts.join(" · ")), test.message ? h("p", { class: "failure" }, h("bdi", {}, test.message)) : "", ...sections(test), h("p", { class: "note" }, "Reproduce: ", h("code", {}, "orch repro " + test.run + ":" + test.name)));
      document.title = test.name + " · " + title;
    }
    if (page.hidden) returnTo = scrollY;
    main.hidden = heading.hidden = contents.hidden = true;
    page.hidden = false;
    drawCharts();
    scrollTo(0, 0);
    const head = page.querySelector("h1");
    if (head) head.focus({ preventScroll: true });
  }

  function close() {
    if (page.hidden) return;
    page.hidden = true;
    main.hidden = heading.hidden = contents.hidden = false;
    page.replaceChildren();
    charts = [];
    document.title = title;
    scrollTo(0, returnTo);
  }

  function follow() {
    const found = /^#t(\d+)$/.exec(location.hash);
    if (found) open(Number(found[1]));
    else close();
  }
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !page.hidden) location.hash = "#tests"; });
  page.addEventListener("click", (event) => {
    const back = event.target.closest(".back");
    if (!back) return;
    event.preventDefault();
    history.pushState(null, "", location.pathname + location.search);
    follow();
  });

  const closed = [];
  addEventListener("beforeprint", () => document.querySelectorAll("section > details:not([open]), .kind:not([open])").forEach((d) => { d.open = true; closed.push(d); }));
  addEventListener("afterprint", () => { while (closed.length) closed.pop().open = false; });

  prepareTable();
  prepareTimeline();
  follow();
})();
