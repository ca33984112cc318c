// Follows one request by its server-sent events. Whatever a model wrote is put into the page as text, never as markup.
import { Form } from "./form.js";
import { Matrix } from "./matrix.js";

const $ = (id) => document.getElementById(id);
const ENDED = { running: "… writing", stop: "■ finished", length: "▤ token limit", pruned: "✂ dropped", interrupted: "▢ not finished" };
const COLUMNS = ["Rank", "Candidate", "Score", "Agrees", "Neurons", "Tokens", "Log-prob.", "Ended", "Sandbox"];
const KEPT = "nad-answer";
const matrix = new Matrix(), form = new Form();
let key = sessionStorage.getItem("nad-key") ?? "", options = null, request = null, run = null;

const make = (tag, text = "", name = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
};
const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
const headers = () => ({ "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) });

async function problem(answer) {
  try { return (await answer.json()).error.message; } catch { return `the server answered with status ${answer.status}`; }
}

async function start() {
  $("error").textContent = "";
  let answer;
  try { answer = await fetch("api/options", { headers: headers() }); } catch { return fail("The server cannot be reached."); }
  if (answer.status === 401) {
    $("key-error").textContent = key ? "That key is not valid." : "";
    $("key-form").hidden = false;
    $("ask").hidden = true;
    return $("key").focus();
  }
  if (!answer.ok) return fail(await problem(answer));
  sessionStorage.setItem("nad-key", key);
  options = await answer.json();
  $("model").textContent = options.model;
  $("similarity").textContent = options.similarity.replaceAll("_", " ");
  $("key-form").hidden = true;
  form.offer(options);
  if (!run) showKept();
}

function fail(message) {
  $("error").textContent = message;
  $("status").textContent = "";
}

// 1. what happens, event by event
const HEARD = {
  queued(told) { request.told = told; $("status").textContent = "Waiting for a place in the batch …"; },
  started() { // until now the request could be refused, so the last one is still on the page
    run = { ...request.told, began: performance.now(), agrees: [], neurons: [], cards: [], checks: new Map() };
    $("evidence").hidden = true;
    $("no-ranking").hidden = false;
    $("score-note").textContent = `The higher the better, comparable within this answer only. ${form.about(run.selector)}`;
    $("ranking").replaceChildren();
    $("candidates").replaceChildren();
    for (let i = 0; i < run.n; i++) run.cards.push(card(i));
    matrix.clear();
    $("result-title").textContent = "Previous answer";
    $("result").classList.add("earlier");
    $("candidates").after($("result"));
    $("status").textContent = "Reading the prompt …";
  },
  progress(event) {
    for (const growth of event.growth) {
      const one = run.cards[growth.candidate], follow = one.text.scrollHeight - one.text.scrollTop - one.text.clientHeight < 30;
      one.text.append(growth.text);
      if (follow) one.text.scrollTop = one.text.scrollHeight;
      one.tokens = growth.tokens;
      one.state = growth.finish_reason;
      refresh(growth.candidate);
    }
    const seconds = (performance.now() - run.began) / 1000;
    const speed = seconds > 0 ? ` · ${Math.round(event.generated / seconds)} tokens/s` : "";
    $("status").textContent = `${event.live.length} of ${run.n} candidates writing · ${count(event.generated)} tokens${speed}`;
  },
  compared(event) {
    $("evidence").hidden = false;
    matrix.show(event.similarity);
    run.neurons = event.activated_neurons;
    run.agrees = event.similarity.map((row, i) => run.n > 1 ? (row.reduce((sum, one) => sum + one, 0) - row[i]) / (run.n - 1) : null);
    run.cards.forEach((_, i) => refresh(i));
  },
  pruned(event) {
    const names = event.dropped.map((i) => `#${i}`).join(", ");
    $("status").textContent = `After ${event.tokens} tokens dropped: ${names}`;
  },
  ranking(event) {
    $("status").textContent = event.to_check.length ? "Checking down the ranking in the sandbox …" : "Ranked.";
    event.to_check.forEach((i) => run.checks.set(i, null));
    $("evidence").hidden = false;
    table(event.ranking, (i) => ({ score: event.scores[i] }));
  },
  verified(event) {
    run.checks.set(event.candidate, event.verdict);
    document.querySelector(`[data-check="${event.candidate}"]`)?.replaceChildren(verdict(event.candidate));
  },
  winnerchosen(event) { run.winner = event.winner; refresh(event.winner); },
  finished(selection) {
    run.winner = selection.winner;
    for (const one of selection.candidates) {
      run.cards[one.index].text.textContent = one.text;
      Object.assign(run.cards[one.index], { state: one.finish_reason, tokens: one.tokens });
      run.neurons[one.index] = one.activated_neurons;
      run.agrees[one.index] = one.agreement;
      if (one.verdict) run.checks.set(one.index, one.verdict);
      refresh(one.index);
    }
    run.ended = true;
    $("evidence").hidden = false;
    if (selection.similarity_matrix) matrix.show(selection.similarity_matrix, selection.ranking);
    table(selection.ranking, (i) => selection.candidates[i]);
    answer(selection);
    const { generated_tokens, saved_tokens } = selection.usage, time = selection.timings;
    const saved = saved_tokens ? `, ${count(saved_tokens)} saved by pruning` : "";
    $("status").textContent = "Done.";
    keep({ told: request.told, to_check: [...run.checks.keys()], selection });
    $("figures").textContent = `${count(generated_tokens)} tokens${saved} · ${(time.prefill + time.decode).toFixed(1)} s, selection ${(1000 * time.select).toFixed(0)} ms, checks ${time.verify.toFixed(1)} s · seed ${selection.seed}`;
  },
  failed(event) { fail(event.error.message); interrupted(); },
};

// the last answer is there again after a reload
function keep(answer) {
  try { sessionStorage.setItem(KEPT, JSON.stringify(answer)); } catch { sessionStorage.removeItem(KEPT); } // longer than a tab may keep
}

function showKept() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept) return;
  request = { told: kept.told };
  HEARD.started();
  kept.to_check.forEach((i) => run.checks.set(i, null));
  HEARD.finished(kept.selection);
  $("status").textContent = "";
}

// 2. the parts of the page
function card(i) {
  const node = make("article", "", "panel card running"), head = make("div", "", "row spread"), text = make("pre");
  const badge = make("span", ENDED.running, "badge"), numbers = make("p", "", "numbers");
  text.tabIndex = 0;
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", `Text of candidate ${i}`);
  head.append(make("h3", `#${i}`), badge);
  node.append(head, text, numbers);
  $("candidates").append(node);
  return { node, text, badge, numbers, tokens: 0, state: "running" };
}

function refresh(i) {
  const one = run.cards[i], won = run.winner === i;
  one.node.className = `panel card ${one.state}${won ? " winner" : ""}`;
  one.badge.textContent = won ? `★ winner · ${ENDED[one.state].slice(2)}` : ENDED[one.state];
  const parts = [`${count(one.tokens)} tokens`];
  if (run.neurons[i] !== undefined && run.neurons[i] !== null) parts.push(`${count(run.neurons[i])} neurons`);
  if (run.agrees[i] !== undefined && run.agrees[i] !== null) parts.push(`agrees ${run.agrees[i].toFixed(3)}`);
  one.numbers.textContent = parts.join(" · ");
}

function interrupted() {
  if (!run || run.ended || run.interrupted) return;
  run.interrupted = true;
  run.cards.forEach((one, i) => { if (one.state === "running") { one.state = "interrupted"; refresh(i); } });
  for (const cell of document.querySelectorAll("[data-check]")) cell.replaceChildren(verdict(+cell.dataset.check));
}

function table(ranking, about) {
  $("no-ranking").hidden = true;
  $("ranking").replaceChildren(...ranking.map((i, place) => {
    const one = about(i), row = make("tr", "", run.winner === i ? "winner" : "");
    const cells = [place + 1, `#${i}${run.winner === i ? " ★" : ""}`, number(one.score, 4), number(run.agrees[i], 3), count(run.neurons[i]),
      count(run.cards[i].tokens), number(one.mean_logprob, 3), ENDED[run.cards[i].state].slice(2)];
    row.append(...cells.map((text) => make("td", text)), make("td"));
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, column) => { cell.dataset.column = COLUMNS[column]; cell.setAttribute("role", "cell"); });
    row.lastChild.dataset.check = i;
    row.lastChild.append(verdict(i));
    return row;
  }));
}

function verdict(i) {
  if (!run.checks.has(i)) return make("span", "–", "hint");
  const found = run.checks.get(i);
  if (!found) return make("span", run.interrupted ? "not checked" : run.ended ? "not needed" : "… waiting", "hint");
  if (found.passed && found.reason) return make("span", `not run: ${found.reason}`, "hint");
  if (found.passed) return make("span", "✓ passed", "passed");
  const more = make("details"), feedback = make("pre", found.feedback);
  more.append(make("summary", "✗ failed", "failed"), feedback);
  return more;
}

function answer(selection) {
  const best = selection.candidates[selection.winner], parts = [`Chosen by ${selection.selector}`];
  const unchecked = best.verdict?.reason;
  if (selection.verified === true && unchecked) parts[0] = `The first in the ranking of ${selection.selector} that did not fail; it was not run, as ${unchecked}`;
  else if (selection.verified === true) parts[0] = `The first in the ranking of ${selection.selector} that passed the sandbox`;
  if (selection.verified === false) parts[0] = `None passed the sandbox; the best-ranked by ${selection.selector}`;
  if (best.agreement !== null) {
    const others = selection.candidates.filter((one) => one !== best && one.agreement !== null);
    const mean = others.reduce((sum, one) => sum + one.agreement, 0) / others.length;
    parts.push(`agrees ${best.agreement.toFixed(3)} with the others, who agree ${mean.toFixed(3)} on average`);
  }
  if (best.activated_neurons !== null) parts.push(`${count(best.activated_neurons)} activated neurons`);
  parts.push(`${count(best.tokens)} tokens`);
  if (best.mean_logprob !== null) parts.push(`mean log-probability ${best.mean_logprob.toFixed(3)}`);
  $("result-title").textContent = `★ Candidate #${selection.winner}`;
  $("reason").textContent = `${parts.join("; ")}.`;
  $("answer").textContent = best.text;
  $("result").classList.remove("earlier");
  $("status").after($("result"));
  $("result").hidden = false;
}

// 3. asking
async function ask(event) {
  event.preventDefault();
  request = { controller: new AbortController(), broke: "" };
  fail("");
  busy(true);
  const body = { model: options.model, ...form.body };
  try {
    const reply = await fetch("api/decode", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: request.controller.signal });
    if (!reply.ok) return fail(await problem(reply));
    await listen(reply.body);
  } catch {
    // not every browser hands the reason of abort() on to those who read the body, so the error does not tell
    if (!request.controller.signal.aborted) return fail("The connection to the server broke.");
    if (request.broke) return fail(request.broke);
    $("status").textContent = "Stopped.";
  } finally {
    interrupted();
    busy(false);
  }
}

// a button that is disabled loses the focus; the one that takes its place takes that too
function busy(is) {
  const [off, on] = is ? [$("run"), $("stop")] : [$("stop"), $("run")], focused = document.activeElement === off;
  on.disabled = false;
  if (focused) on.focus();
  off.disabled = true;
}

async function listen(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  // the server breaks every silence, so a long one means that it, or what lies between, is gone
  const patience = 3 * options.keep_alive_seconds;
  const gone = () => {
    request.broke = `The connection to the server broke: nothing came for ${Math.round(patience)} s.`;
    request.controller.abort();
  };
  let rest = "", last = "";
  for (;;) {
    const silence = setTimeout(gone, 1000 * patience);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) break;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const [, name, data] = frame.match(/^event: (\w+)\ndata: (.*)$/s) ?? [];
      if (!name) continue; // a keep-alive
      last = name;
      HEARD[name]?.(JSON.parse(data));
    }
  }
  if (last !== "finished" && last !== "failed") fail("The server ended the answer early.");
}

$("ask").addEventListener("submit", ask);
$("stop").addEventListener("click", () => request.controller.abort());
$("key-form").addEventListener("submit", (event) => { event.preventDefault(); key = $("key").value.trim(); start(); });
$("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText($("answer").textContent); $("copy").textContent = "Copied"; } catch { getSelection().selectAllChildren($("answer")); }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
$("columns").replaceChildren(...COLUMNS.map((name) => {
  const head = make("th", name);
  head.scope = "col";
  head.setAttribute("role", "columnheader");
  return head;
}));
start();
