// The documentation: the OpenAPI document in, one section for each call out. What it says is shown as text.

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const nameOf = (reference) => reference.split("/").at(-1);

// A schema in a few words: a link where it has a name, otherwise its type.
function short(schema) {
  if (schema.$ref) return make("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref));
  if (schema.type === "array" && schema.items) return make("span", {}, "list of ", short(schema.items));
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return make("span", {}, ...choices.flatMap((choice, index) => (index ? [" or ", short(choice)] : [short(choice)])));
  const bounds = schema.minimum !== undefined ? ` from ${schema.minimum}${schema.maximum !== undefined ? ` to ${schema.maximum}` : ""}` : "";
  return make("span", {}, `${[].concat(schema.type ?? "anything").join(" or ")}${schema.format ? `, ${schema.format}` : ""}${bounds}`);
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function operation(path, method, described) {
  const section = make("section", { id: described.operationId });
  const heading = make("h2", {}, make("span", { className: "method" }, method.toUpperCase()), " ", make("code", {}, path));
  section.append(make("div", { className: "bar" }, heading), make("p", {}, described.summary, described.security ? make("span", { className: "muted" }, " Needs the key.") : ""));
  if (described.parameters.length) {
    section.append(table(["Parameter", "In", "Is", "Meaning"], described.parameters.map((one) => make("tr", {},
      make("th", { scope: "row" }, make("code", {}, one.name), one.required ? " (required)" : ""), make("td", {}, one.in), make("td", {}, short(one.schema)), make("td", { className: "long" }, one.description || "")))));
  }
  const body = described.requestBody?.content["application/json"].schema;
  if (body) section.append(make("p", {}, "Body: ", short(body)));
  section.append(table(["Answer", "Meaning", "Body"], Object.entries(described.responses).map(([status, answer]) => make("tr", {},
    make("th", { scope: "row" }, status), make("td", {}, answer.description), make("td", {}, short(Object.values(answer.content)[0].schema))))));
  if (method === "get" && !path.includes("{")) {
    section.append(make("p", {}, make("a", { href: path }, `Open ${path}`)));
  }
  return section;
}

function schemaSection(name, schema) {
  const section = make("section", { id: `schema-${name}` }, make("div", { className: "bar" }, make("h3", {}, name)), make("p", {}, schema.description || ""));
  if (schema.properties) {
    const required = new Set(schema.required || []);
    section.append(table(["Field", "Is", "Meaning"], Object.entries(schema.properties).map(([field, one]) => make("tr", {},
      make("th", { scope: "row" }, make("code", {}, field), required.has(field) ? " (required)" : ""), make("td", {}, short(one)), make("td", { className: "long" }, one.description || "")))));
  }
  section.append(make("details", {}, make("summary", {}, "JSON Schema"), make("pre", {}, JSON.stringify(schema, null, 2))));
  return section;
}

const holder = document.getElementById("operations");
try {
  const document_ = await (await fetch("/openapi.json")).json();
  const sections = Object.entries(document_.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, described]) => operation(path, method, described)));
  holder.replaceChildren(...sections);
  document.getElementById("schemas").replaceChildren(...Object.entries(document_.components.schemas).sort().map(([name, schema]) => schemaSection(name, schema)));
  document.body.dataset.ready = "true";
} catch (error) {
  holder.replaceChildren(make("p", { className: "problem", role: "alert" }, `The document cannot be read: ${error.message}`));
}
