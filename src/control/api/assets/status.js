// The status page: the API's JSON in, tables and a chart out. What the API says is shown as text, never as markup.

const REFRESH_MS = 5000;
const MOST_RUNS = 15;
const SPANS = [["all", "All"], ["1825", "5 years"], ["365", "1 year"], ["90", "90 days"]];
const MEANING = { succeeded: "good", failed: "bad", timed_out: "bad", running: "busy", dispatched: "busy", queued: "busy" };

const element = (id) => document.getElementById(id);
const state = { metrics: [], metricsCursor: null, runs: [], runsCursor: null, chosen: location.hash.slice(1) || null, span: "all", drawn: null, points: [] };

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail || answer.statusText), { status: answer.status });
  return body;
}

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function draw(tag, attributes, text) {
  const drawn = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) drawn.setAttribute(name, value);
  if (text !== undefined) drawn.textContent = text;
  return drawn;
}

const words = (status) => status.replaceAll("_", " ");
const badge = (status) => make("span", { className: `status ${MEANING[status] || "idle"}` }, words(status));
const count = (number) => (number === null || number === undefined ? "–" : number.toLocaleString("en"));
const moment = (text) => (text ? text.slice(0, 19).replace("T", " ") : "–");
const figure = (value) => (value === null ? "–" : Number(value.toPrecision(8)).toLocaleString("en", { maximumFractionDigits: 8 }));

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const age = (text) => (text ? `${duration(Math.max(0, (Date.now() - Date.parse(text)) / 1000))} ago` : "never");
const took = (run) => (run.started_at && run.finished_at ? duration(Math.max(0, (Date.parse(run.finished_at) - Date.parse(run.started_at)) / 1000)) : "–");

// Rows are replaced only where they changed: focus and selection stay where they are.
function fill(body, rows, columns, empty) {
  const next = rows.length ? rows : [make("tr", {}, make("td", { colSpan: columns, className: "muted" }, empty))];
  const same = body.children.length === next.length && next.every((row, index) => row.isEqualNode(body.children[index]));
  if (same) return;
  const focused = body.contains(document.activeElement) ? document.activeElement.textContent : null;
  body.replaceChildren(...next);
  if (focused !== null) [...body.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
}

const cell = (content, className = "") => make("td", { className }, content);
const head = (content) => make("th", { scope: "row" }, content);

function showMetrics() {
  const wanted = element("find").value.trim().toLowerCase();
  const shown = state.metrics.filter((metric) => metric.code.toLowerCase().includes(wanted));
  const rows = shown.map((metric) => {
    const choose = make("button", { className: "link mono", type: "button" }, metric.code);
    choose.setAttribute("aria-pressed", String(metric.code === state.chosen));
    choose.dataset.code = metric.code;
    const version = metric.latest_version;
    const row = make("tr", {},
      head(choose), cell(make("span", { className: "mono" }, version?.version_ts || "–")), cell(age(version?.finished_at)),
      cell(count(version?.row_count), "number"), cell(metric.latest_run ? badge(metric.latest_run.status) : "–"), cell(metric.datasets.join(", ")));
    if (metric.code === state.chosen) row.className = "chosen";
    row.title = metric.description || "";
    return row;
  });
  fill(element("metrics"), rows, 6, "No metric is registered.");
  element("more-metrics").hidden = !state.metricsCursor;
}

function showRuns() {
  const rows = state.runs.map((run) => make("tr", {},
    head(make("a", { className: "mono", href: `/runs/${encodeURIComponent(run.run_id)}` }, run.run_id.slice(0, 8))),
    cell(make("span", { className: "mono" }, run.metric_code)), cell(badge(run.status)), cell(moment(run.requested_at)),
    cell(took(run), "number"), cell(count(run.row_count), "number"), cell(run.error || run.error_code || "", "long")));
  fill(element("runs"), rows, 7, "No such run.");
  element("more-runs").hidden = !state.runsCursor;
}

function showDatasets(datasets) {
  const rows = datasets.map((dataset) => make("tr", {},
    head(make("a", { className: "mono", href: `/datasets/${encodeURIComponent(dataset.id)}` }, dataset.id)), cell(dataset.name || "–"),
    cell(count(dataset.series.length), "number"), cell(make("span", { className: "mono" }, dataset.latest_manifest_path?.split("/").at(-2) || "–")),
    cell(age(dataset.latest_update_at))));
  fill(element("datasets"), rows, 5, "No dataset is registered.");
}

function showTiles(datasets) {
  const is = (...statuses) => state.metrics.filter((metric) => statuses.includes(metric.latest_run?.status)).length;
  const more = state.metricsCursor ? "+" : "";
  const newest = datasets.map((dataset) => dataset.latest_update_at).filter(Boolean).sort().at(-1);
  const tiles = [
    [`${state.metrics.length}${more}`, "metrics"], [`${state.metrics.filter((metric) => metric.latest_version).length}${more}`, "with a version"],
    [is("queued", "dispatched", "running"), "being computed"], [is("failed", "timed_out"), "whose newest run failed"], [age(newest), "newest update of a dataset"]];
  fill(element("tiles"), tiles.map(([value, name]) => make("li", {}, make("strong", {}, String(value)), make("span", {}, name))), 1, "");
}

// A step of 1, 2 or 5 times a power of ten, so that there are about so many of them.
function ticks(least, most, wanted) {
  const rough = (most - least) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(least / step);
  return Array.from({ length: Math.max(0, Math.floor(most / step) - first + 1) }, (_, index) => (first + index) * step);
}

function timeTicks(least, most) {
  const years = (most - least) / 31557600000;
  const marks = [];
  const months = years > 12 ? 60 : years > 5 ? 24 : years > 2 ? 12 : years > 0.8 ? 3 : 1;
  const start = new Date(least);
  for (let month = 0; marks.length < 40; month += months) {
    const year = months >= 12 ? Math.ceil(start.getUTCFullYear() / (months / 12)) * (months / 12) : start.getUTCFullYear();
    const first = months >= 12 ? 0 : Math.ceil(start.getUTCMonth() / months) * months;
    const mark = Date.UTC(year, first + month);
    if (mark > most) break;
    if (mark >= least) marks.push([mark, months >= 12 ? mark && new Date(mark).toISOString().slice(0, 4) : new Date(mark).toISOString().slice(0, 7)]);
  }
  return marks.length > 1 ? marks : [least, most].map((time) => [time, new Date(time).toISOString().slice(0, 10)]);
}

function showChart(code, points) {
  const [width, height, left, right, top, bottom] = [960, 300, 84, 24, 14, 28];
  const known = points.filter((point) => point.value !== null).map((point) => [Date.parse(point.ts), point.value]);
  if (!known.length) {
    element("chart").replaceChildren(make("p", { className: "muted" }, `${code} has no values in this span.`));
    return;
  }
  const times = known.map(([time]) => time), values = known.map(([, value]) => value);
  const [firstTime, lastTime] = [times[0], times.at(-1)];
  let [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  if (least === most) [least, most] = [least - Math.abs(least) * 0.1 - 1e-9, most + Math.abs(most) * 0.1 + 1e-9];
  const x = (time) => left + (lastTime === firstTime ? 0.5 : (time - firstTime) / (lastTime - firstTime)) * (width - left - right);
  const y = (value) => top + (1 - (value - least) / (most - least)) * (height - top - bottom);
  const says = `${code}: ${known.length} values from ${moment(points[0].ts).slice(0, 10)} to ${moment(points.at(-1).ts).slice(0, 10)}, between ${figure(least)} and ${figure(most)}, the newest ${figure(values.at(-1))}.`;
  const chart = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": says });
  for (const value of ticks(least, most, 5)) {
    chart.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    chart.append(draw("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
  }
  for (const [time, label] of timeTicks(firstTime, lastTime)) {
    chart.append(draw("text", { x: x(time), y: height - 8, "text-anchor": "middle" }, label));
  }
  // A null is a gap.
  let path = "", pen = "M";
  const dots = [];
  points.forEach((point, index) => {
    if (point.value === null) { pen = "M"; return; }
    path += `${pen}${x(Date.parse(point.ts)).toFixed(1)} ${y(point.value).toFixed(1)}`;
    const alone = pen === "M" && (points[index + 1]?.value ?? null) === null;
    if (alone) dots.push(point);
    pen = "L";
  });
  chart.append(draw("path", { class: "curve", d: path }));
  for (const point of dots) chart.append(draw("circle", { class: "dot", r: 2.5, cx: x(Date.parse(point.ts)), cy: y(point.value) }));
  const cursor = draw("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  chart.append(cursor);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const time = firstTime + ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * (lastTime - firstTime);
    const near = known.reduce((best, one) => (Math.abs(one[0] - time) < Math.abs(best[0] - time) ? one : best));
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(near[0]));
    cursor.setAttribute("visibility", "visible");
    element("reading").textContent = `${new Date(near[0]).toISOString().slice(0, 10)}: ${figure(near[1])}`;
  });
  chart.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); element("reading").textContent = says; });
  element("chart").replaceChildren(chart);
  element("reading").textContent = says;
}

async function showValues() {
  const metric = state.metrics.find((one) => one.code === state.chosen);
  if (!metric?.latest_version) return;
  const want = `${metric.code} ${metric.latest_version.version_ts} ${state.span}`;
  if (state.drawn === want) return;
  state.drawn = want;
  const from = state.span === "all" ? "" : `&from=${new Date(Date.now() - Number(state.span) * 86400000).toISOString().slice(0, 10)}`;
  try {
    const values = await ask(`/api/v1/metrics/${encodeURIComponent(metric.code)}?limit=20000${from}`);
    if (state.drawn !== want) return;
    element("values-heading").textContent = `Values of ${metric.code}${metric.unit ? `, in ${metric.unit}` : ""}`;
    showChart(metric.code, values.points);
    const newest = values.points.slice(-20).reverse();
    fill(element("points"), newest.map((point) => make("tr", {}, head(moment(point.ts)), cell(figure(point.value), "number"))), 2, "None.");
  } catch (error) {
    state.drawn = null;
    if (error.status !== 404) throw error;
  }
}

function showSpans() {
  element("spans").replaceChildren(...SPANS.map(([span, name]) => {
    const button = make("button", { type: "button", onclick: () => { state.span = span; showSpans(); guarded(showValues)(); } }, name);
    button.setAttribute("aria-pressed", String(span === state.span));
    return button;
  }));
}

function choose(code) {
  state.chosen = code;
  history.replaceState(null, "", `#${code}`);
  showMetrics();
  return showValues();
}

async function more(path, list, cursor, show) {
  const page = await ask(`${path}cursor=${state[cursor]}`);
  state[list].push(...page.items);
  state[cursor] = page.next_cursor;
  show();
}

const runsPath = () => {
  const status = element("status").value;
  return `/runs?limit=${MOST_RUNS}&${status ? `status=${status}&` : ""}`;
};

// A refresh keeps as much of a list as was loaded: further pages are looked at anew only when they are asked for.
async function refresh() {
  const [health, metrics, runs, datasets] = await Promise.all([ask("/health"), ask("/metrics?limit=100"), ask(runsPath()), ask("/datasets?limit=100")]);
  if (state.metrics.length <= 100) [state.metrics, state.metricsCursor] = [metrics.items, metrics.next_cursor];
  else state.metrics.splice(0, metrics.items.length, ...metrics.items);
  if (state.runs.length <= MOST_RUNS) [state.runs, state.runsCursor] = [runs.items, runs.next_cursor];
  element("health").className = "status good";
  element("health").textContent = `works, version ${health.version}`;
  element("problem").hidden = true;
  element("asked").textContent = `Asked at ${new Date().toISOString().slice(11, 19)}.`;
  state.chosen ??= state.metrics.find((metric) => metric.latest_version)?.code ?? null;
  showTiles(datasets.items);
  showMetrics();
  showRuns();
  showDatasets(datasets.items);
  await showValues();
}

function guarded(action) {
  return async (...given) => {
    try {
      await action(...given);
    } catch (error) {
      element("problem").textContent = `The API does not answer as it should: ${error.message}`;
      element("problem").hidden = false;
      element("health").className = "status bad";
      element("health").textContent = "does not answer";
    }
  };
}

element("metrics").addEventListener("click", (event) => {
  const code = event.target.dataset?.code;
  if (code) guarded(choose)(code);
});
element("find").addEventListener("input", showMetrics);
element("status").addEventListener("change", guarded(async () => {
  const runs = await ask(runsPath());
  [state.runs, state.runsCursor] = [runs.items, runs.next_cursor];
  showRuns();
}));
element("more-metrics").addEventListener("click", guarded(() => more("/metrics?limit=100&", "metrics", "metricsCursor", showMetrics)));
element("more-runs").addEventListener("click", guarded(() => more(runsPath(), "runs", "runsCursor", showRuns)));

showSpans();
await guarded(refresh)();
document.body.dataset.ready = "true";
setInterval(() => { if (!document.hidden) guarded(refresh)(); }, REFRESH_MS);
