/** The request that the page makes as a program: curl, Python, JavaScript.  Only text is made here. */

import { selectChanged } from "./parameters.js";

const TOKEN_VARIABLE = "MASKMILL_TOKEN";

/**
 * Return the three programs by name.
 *
 * @param request { root: address of the service, ends with a slash; fileName; parameters; model: null for the default;
 *   format: { name, file }, what is saved; hasToken }
 */
export function buildSnippets(request) {
  const wanted = {
    ...selectChanged(request.parameters),
    ...(request.model ? { model: request.model } : {}),
    formats: request.format.name,
  };
  const facts = { ...request, root: request.root.replace(/\/$/, ""), wanted };
  return { curl: buildCurl(facts), Python: buildPython(facts), JavaScript: buildJavaScript(facts) };
}

function buildCurl({ root, fileName, wanted, format, hasToken }) {
  const query = new URLSearchParams(wanted).toString().replaceAll("%2F", "/");
  const token = hasToken ? ` -H "Authorization: Bearer $${TOKEN_VARIABLE}"` : "";
  // A path that begins with a dash would be an option.
  const path = quoteShell(fileName.startsWith("-") ? `./${fileName}` : fileName);
  return [
    "# An id of your own names the job, so nothing has to be read from the first answer.",
    'ID="photo-$(date +%s)-$$"',
    `curl --fail-with-body${token} --data-binary @${path} -X PUT \\`,
    `  ${quoteShell(`${root}/v1/jobs/`)}"$ID"${quoteShell(`?${query}`)}`,
    `curl --fail-with-body${token} ${quoteShell(`${root}/v1/jobs/`)}"$ID?wait=60"`,
    `curl --fail-with-body${token} -o ${quoteShell(format.file)} ${quoteShell(`${root}/v1/jobs/`)}"$ID"${quoteShell(`/${format.file}`)}`,
    "",
  ].join("\n");
}

function buildPython({ root, fileName, wanted, format, hasToken }) {
  const imports = hasToken ? "import os\n\nimport requests" : "import requests";
  const headers = hasToken ? `{"Authorization": "Bearer " + os.environ["${TOKEN_VARIABLE}"]}` : "{}";
  return `${imports}

jobs = ${quotePython(`${root}/v1/jobs`)}
parameters = ${formatPython(wanted)}

session = requests.Session()
session.headers.update(${headers})

with open(${quotePython(fileName)}, "rb") as photo:
    answer = session.post(jobs, params=parameters, data=photo)
answer.raise_for_status()
job = answer.json()

while job["state"] in ("queued", "running"):
    job = session.get(f"{jobs}/{job['id']}", params={"wait": 20}).json()

result = session.get(f"{jobs}/{job['id']}/result")
result.raise_for_status()
for segment in result.json()["segments"]:
    print(segment["label"], segment["score"], segment["area"], segment["bbox"])

file = session.get(f"{jobs}/{job['id']}/${format.file}")
file.raise_for_status()
with open(${quotePython(format.file)}, "wb") as target:
    target.write(file.content)
`;
}

function buildJavaScript({ root, fileName, wanted, format, hasToken }) {
  const headers = hasToken ? `{ Authorization: \`Bearer \${process.env.${TOKEN_VARIABLE}}\` }` : "{}";
  return `// For Node.js 18 or newer, as a file with the ending .mjs.
import { readFile, writeFile } from "node:fs/promises";

const jobs = ${JSON.stringify(`${root}/v1/jobs`)};
const parameters = new URLSearchParams(${formatJavaScript(wanted)});
const headers = ${headers};

async function call(address, options = {}) {
  const answer = await fetch(address, { headers, ...options });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const photo = await readFile(${JSON.stringify(fileName)});
let job = await (await call(\`\${jobs}?\${parameters}\`, { method: "POST", body: photo })).json();

while (["queued", "running"].includes(job.state)) {
  job = await (await call(\`\${jobs}/\${job.id}?wait=20\`)).json();
}

const result = await (await call(\`\${jobs}/\${job.id}/result\`)).json();
for (const segment of result.segments) {
  console.log(segment.label, segment.score, segment.area, segment.bbox);
}

const file = await call(\`\${jobs}/\${job.id}/${format.file}\`);
await writeFile(${JSON.stringify(format.file)}, Buffer.from(await file.arrayBuffer()));
`;
}

/** Return a text as one word of a POSIX shell. */
export function quoteShell(text) {
  return /^[A-Za-z0-9_./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Return a text as a literal of Python: JSON's escapes are Python's, but for those beyond 16 bits, which stand as they are. */
export function quotePython(text) {
  return JSON.stringify(text);
}

function formatPython(wanted) {
  return `{${Object.entries(wanted)
    .map(([name, value]) => `"${name}": ${formatPythonValue(value)}`)
    .join(", ")}}`;
}

function formatPythonValue(value) {
  // A query has texts; Python would write its own form of a boolean.
  return typeof value === "boolean" ? `"${value}"` : JSON.stringify(value);
}

function formatJavaScript(wanted) {
  return `{ ${Object.entries(wanted)
    .map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    .join(", ")} }`;
}
