"use strict";
// What is judged and what models write is hostile: it becomes text (textContent), and never markup.

const at = (id) => document.getElementById(id);
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
let under_way = null; // the AbortController of the request, which the server gives up with it

function make(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const letter = (index) => LETTERS[index] ?? String(index + 1);
const number = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2));

function renumber() {
  [...at("responses").children].forEach((one, index, all) => {
    one.querySelector("label").textContent = `Response ${letter(index)}`;
    one.querySelector("label").htmlFor = one.querySelector("textarea").id = `response-${index}`;
    one.querySelector("button").hidden = all.length < 2;
  });
}

function addResponse(text = "") {
  const one = make("div", "", "response");
  const top = make("div", "", "top");
  const remove = make("button", "Remove", "plain");
  const area = make("textarea");
  remove.type = "button";
  remove.addEventListener("click", () => { one.remove(); renumber(); });
  area.rows = 4;
  area.value = text;
  top.append(make("label"), remove);
  one.append(top, area);
  at("responses").append(one);
  renumber();
}

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").className = bad ? "error" : "";
}

function question() {
  const responses = [...at("responses").querySelectorAll("textarea")].map((area) => area.value);
  const asked = { prompt: at("prompt").value, responses, stream: true };
  for (const name of ["k", "seed"]) {
    if (at(name).value !== "") asked[name] = Number(at(name).value);
  }
  for (const name of ["principles", "reference"]) {
    if (at(name).value.trim() !== "") asked[name] = at(name).value;
  }
  return asked;
}

function headers() {
  const token = at("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function judge(event) {
  event.preventDefault();
  const asked = question();
  under_way = new AbortController();
  busy(true);
  say("Waiting for the first vote.");
  at("result").hidden = true;
  at("votes").replaceChildren();
  try {
    const answer = await fetch("v1/judge", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify(asked),
      signal: under_way.signal,
    });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    await read(answer.body, asked.responses.length);
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
  } finally {
    busy(false);
  }
}

function busy(is) {
  at("judge").disabled = is;
  at("stop").hidden = !is;
}

async function read(body, n) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const votes = [];
  let text = "", k = 0, done = false;
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const [kind, data] = event_of(text.slice(0, end));
      text = text.slice(end + 2);
      if (kind === "start") k = data.k;
      if (kind === "error") throw new Error(data.error.message);
      if (kind === "vote") {
        votes.push(data);
        show_vote(data, n);
        show_votes(votes, n, k);
      }
      if (kind === "verdict") {
        show_verdict(data);
        done = true;
      }
    }
  }
  if (!done) throw new Error("The connection ended before the verdict.");
}

function event_of(block) {
  const lines = block.split("\n");
  const of = (name) => lines.filter((l) => l.startsWith(`${name}: `)).map((l) => l.slice(name.length + 2)).join("");
  const data = of("data");
  return [of("event"), data ? JSON.parse(data) : null];
}

function show_vote(vote, n) {
  at("result").hidden = false;
  const card = make("li", "", "vote");
  card.id = `vote-${vote.sample}`;
  const top = make("div", "", "top");
  top.append(make("h3", `Sample ${vote.sample + 1}`), make("span", "", "badge"));
  card.append(top);
  if (n > 1) card.append(make("p", `Saw: ${vote.order.map((i, at) => `[${at + 1}] ${letter(i)}`).join(", ")}`, "facts"));
  card.append(make("p", vote.scores ? scores_of(vote) : `No scores: ${vote.reason}`, "facts scores"));
  if (vote.principles) card.append(make("h4", "Principles"), make("div", vote.principles, "said"));
  if (vote.critique) card.append(make("h4", "Critique"), make("div", vote.critique, "said"));
  if (!vote.principles && !vote.critique) card.append(make("h4", "Text"), make("div", vote.text, "said"));
  // In the order of their numbers, whichever comes first.
  const after = [...at("votes").children].find((one) => Number(one.id.slice(5)) > vote.sample);
  at("votes").insertBefore(card, after ?? null);
}

const scores_of = (vote) => `Scores: ${vote.scores.map((s, i) => `${letter(i)} ${number(s)}`).join(", ")}`;

function show_votes(votes, n, k) {
  const read = votes.filter((vote) => vote.scores);
  const sums = Array.from({ length: n }, (_, i) => read.reduce((sum, vote) => sum + vote.scores[i], 0));
  at("headline").textContent = `Votes so far: ${votes.length} of ${k}`;
  say(`${votes.length} of ${k} votes are there.`);
  table(sums, read.length, Math.max(...sums), `Sums over ${read.length} samples with scores.`);
}

function table(sums, counted, top, caption) {
  const row = make("tr");
  for (const name of ["Response", "Sum", "Mean"]) {
    const cell = make("th", name);
    cell.scope = "col";
    row.append(cell);
  }
  at("scores").tHead.replaceChildren(row);
  at("scores").tBodies[0].replaceChildren(...sums.map((sum, index) => {
    const line = make("tr", "", counted && sum === top ? "best" : "");
    const name = make("th", letter(index));
    name.scope = "row";
    line.append(name, make("td", number(sum)), make("td", counted ? (sum / counted).toFixed(2) : "–"));
    return line;
  }));
  at("caption").textContent = caption;
}

function show_verdict(verdict) {
  const rated = verdict.judgments.some((vote) => vote.meta !== null);
  for (const vote of verdict.judgments) {
    const card = at(`vote-${vote.sample}`);
    const badge = card.querySelector(".badge");
    card.classList.add(vote.counted ? "kept" : "left");
    badge.classList.add(vote.counted ? "yes" : "no");
    badge.textContent = vote.counted ? (rated ? "kept" : "counted") : vote.scores ? "left out" : "unreadable";
    if (vote.meta !== null) {
      card.querySelector(".scores").textContent += `; meta RM ${vote.meta.toFixed(2)}`;
    }
  }
  const tied = verdict.tied.length > 1 ? ` (tied: ${verdict.tied.map(letter).join(", ")})` : "";
  at("headline").textContent = verdict.scores.length > 1 ? `Best: ${letter(verdict.best)}${tied}` : "Verdict";
  const by = rated ? "that the meta RM kept" : "that count";
  table(verdict.scores, verdict.counted, verdict.scores[verdict.best],
    `Sums over the ${verdict.counted} of ${verdict.k} samples ${by}; ahead by ${number(verdict.margin)} points a sample.`);
  say("Done.");
}

async function models() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (answer.ok) at("model").textContent = `Model: ${(await answer.json()).data[0].id}.`;
}

at("form").addEventListener("submit", judge);
at("more").addEventListener("click", () => addResponse());
at("stop").addEventListener("click", () => under_way?.abort());
at("token").addEventListener("change", models);
addResponse();
addResponse();
models();
