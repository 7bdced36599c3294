// Takes both permits of a plan from JavaScript, without a library: read, cut, verify, run the printed script.
//   python -m p33_sidecar.store.scripts take > take.lua
//   P33_PERMIT_KEY=... node take.mjs take.lua /path/to/redis.sock|host:port VENUE PLAN_ID SYMBOL [ENTRY_MS]
// ENTRY_MS: when the plan's entry was published (its stream id); what was issued before is no answer to it.
// APPLY_PERMIT_WAIT_MS: how long what is missing is waited for (1200). REDIS_USERNAME=p33-apply and REDIS_PASSWORD: for
// a server that has users.
// P33_PERMIT_KEY_PREVIOUS: the key before, while one replaces the other. Without a key everything is forged.
// Prints one line of JSON: {"word": "taken", "side", "quantity", "expires_ms"}, or {"word": <the refusal>}. Exit code 0
// for `taken`, 1 for a refusal. Docs: apply-layer.md, "Any other language".
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const [scriptPath, server, venue, plan, symbol, entry = "0"] = process.argv.slice(2);
const { P33_PERMIT_KEY, P33_PERMIT_KEY_PREVIOUS, APPLY_PERMIT_WAIT_MS: waitMs = "1200" } = process.env;
const signingKeys = [P33_PERMIT_KEY, P33_PERMIT_KEY_PREVIOUS].filter(Boolean);  // two while one is replaced

// -- RESP2, as much of it as is needed: bytes stay bytes -----------------------------------------------------------
const PATIENCE_MS = 5000;
const PAUSE_MS = 20;
const LOST = new Error("the connection is lost");
const [host, port] = server.split(":");
let socket, received, waiting;

// What is awaited of a connection ends with it: a later one has a line of its own.
function dial() {
  socket?.destroy();
  socket = server.startsWith("/") ? connect(server) : connect(Number(port), host);
  received = Buffer.alloc(0);
  const asked = waiting = [];
  socket.on("data", (chunk) => {
    received = Buffer.concat([received, chunk]);
    for (let got; asked.length && (got = parse(0)); received = received.subarray(got.end)) asked.shift()(got.value);
  });
  const lost = () => { for (const settle of asked.splice(0)) settle(LOST); };
  socket.on("error", lost).on("close", lost).setTimeout(PATIENCE_MS, () => socket.destroy());
  const { REDIS_USERNAME: user = "default", REDIS_PASSWORD: password } = process.env;
  if (password) ask("AUTH", user, password).catch(() => {});                              // the next answer says it
}

function parse(at) {
  const eol = received.indexOf("\r\n", at);
  if (eol < 0) return null;
  const [kind, text] = [received[at], received.toString("latin1", at + 1, eol)];
  if (kind === 0x3a) return { value: Number(text), end: eol + 2 };                        // :
  if (kind === 0x2b) return { value: text, end: eol + 2 };                                // +
  if (kind === 0x2d) return { value: new Error(text), end: eol + 2 };                     // -
  if (text === "-1") return { value: null, end: eol + 2 };
  const size = Number(text);
  if (kind === 0x24) {                                                                    // $
    const end = eol + 2 + size;
    return received.length < end + 2 ? null : { value: received.subarray(eol + 2, end), end: end + 2 };
  }
  const items = [];                                                                       // *
  let end = eol + 2;
  for (let left = size; left > 0; left--) {
    const item = parse(end);
    if (!item) return null;
    items.push(item.value);
    end = item.end;
  }
  return { value: items, end };
}

function ask(...parts) {
  if (socket.destroyed) return Promise.reject(LOST);
  const bytes = parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))));
  socket.write(Buffer.concat([Buffer.from(`*${bytes.length}\r\n`),
    ...bytes.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")])]));
  return new Promise((resolve, reject) =>
    waiting.push((value) => (value instanceof Error ? reject(value) : resolve(value))));
}

// -- the recipe ----------------------------------------------------------------------------------------------------
// Nothing may follow the signature: of two members with one name JSON.parse lets the last win, the unsigned one.
function verified(raw) {
  const cut = raw.indexOf(',"sig":');
  const [, given] = /^,"sig":"([0-9a-f]{64})"}$/.exec(raw.toString("latin1", Math.max(cut, 0))) ?? [];
  const under = (key) => createHmac("sha256", key).update(raw.subarray(0, cut)).digest();
  return given !== undefined && signingKeys.some((key) => timingSafeEqual(Buffer.from(given, "hex"), under(key)));
}

const parsed = (raw) => {
  try { return JSON.parse(raw) ?? {}; } catch { return {}; }
};

// A key that holds no string is there, and is no permit.
const bytesAt = (key) => ask("GET", key).catch((error) => {
  if (!error.message.startsWith("WRONGTYPE")) throw error;
  return Buffer.from("wrong type");
});

// What stands before any permit, in the contract's order; undefined where nothing does.
async function standing([taken, halt, haltOfSymbol, hold]) {
  if (await ask("EXISTS", taken)) return "already_consumed";
  if (await ask("EXISTS", halt, haltOfSymbol)) return "halted";
  if (await ask("EXISTS", hold)) return "reconcile_hold_active";
}

// The exact digits of a number: JSON.parse would make a float of them.
const digits = (raw, name) => raw.toString().match(new RegExp(`"${name}":(-?[0-9.]+)`))[1];

function closes(raw, permit) {
  const [quantity, held] = [Number(digits(raw, "safe_close_qty")), Number(digits(raw, "exchange_position_amt"))];
  return quantity > 0 && quantity <= Math.abs(held) && permit.close_side === (held > 0 ? "SELL" : "BUY");
}

// A word ends the wait, unless what it speaks of may still come or answered an earlier publication of the plan.
const ends = (word) => ({ word });
const waits = (word) => ({ word, wait: true });
const earlier = (issued) => issued < Number(entry);

function judged(governor, raw, now) {
  if (governor === null) return waits("missing_governor_permit");
  const said = parsed(governor);
  if (said.granted !== true) return (earlier(said.issued_ms) ? waits : ends)("governor_denied");
  if (raw === null) return waits("missing_p33_permit");
  if (parsed(raw).v !== 1) return waits("invalid_permit_type");
  if (!verified(raw)) return waits("forged_permit");
  const permit = JSON.parse(raw);
  if (!permit.allow && earlier(permit.issued_ms)) return waits("missing_p33_permit");
  if (!permit.allow) return ends(`p33_denied:${permit.reason}`);
  if (now >= permit.expires_ms) return waits("expired_permit");
  if (permit.plan_id !== plan) return waits("plan_mismatch");
  if (permit.symbol !== symbol) return waits("symbol_mismatch");
  if (permit.venue !== venue) return waits("venue_mismatch");
  if (!closes(raw, permit)) return waits("invalid_quantity");
  return { permit };
}

// Of the server that is asked now: one that came back without its last writes may not know that the pair was taken.
const runId = async () => (await ask("INFO", "server")).toString().match(/run_id:(\w+)/)[1];

async function tryOnce(sha, token) {
  const [seconds, micros] = (await ask("TIME")).map(Number);
  const now = seconds * 1000 + Math.floor(micros / 1000);
  const keys = [`quantum:p33:taken:${plan}`, "quantum:p33:halt", `quantum:p33:halt:${symbol}`,
    `quantum:reconcile:hold:${symbol}`, `quantum:permit:${plan}`, `quantum:permit:p33:${plan}`,
    `quantum:p33:open:${symbol}`, `quantum:position:snapshot:${symbol}`, `quantum:position:ledger:${symbol}`,
    `quantum:p33:ended:${plan}`, "quantum:p33:run_id", "quantum:p33:taken", "quantum:p33:taken-orders"];
  const governor = await bytesAt(keys[4]);
  const raw = await bytesAt(keys[5]);
  const stands = await standing(keys);
  if (stands) return ends(stands);
  const { permit, ...refusal } = judged(governor, raw, now);
  if (!permit) return refusal;
  const record = { v: 1, plan_id: plan, symbol, nonce: permit.nonce, token, by: "javascript", at_ms: now,
    gate: "both", permit: raw.toString() };
  const args = (id) => [governor, raw, plan, symbol, permit.nonce, token, digits(raw, "exchange_position_amt"),
    permit.ledger_rev, permit.max_snapshot_age_sec * 1000, permit.expires_ms, now + PATIENCE_MS, id, 86400000,
    JSON.stringify(record), ""];
  const run = async () => ask("EVALSHA", sha, keys.length, ...keys, ...args(await runId()));
  const reply = await run().catch((error) => {
    if (error !== LOST) throw error;
    dial();
    return run();                                                                         // the same token again
  });
  const word = reply[0].toString();
  if (word === "changed") return waits("missing_p33_permit");                             // read again
  if (word === "expired_permit") return waits(word);
  if (word !== "taken") return (earlier(permit.issued_ms) ? waits : ends)(word);
  return { word, side: permit.close_side, quantity: digits(raw, "safe_close_qty"), expires_ms: permit.expires_ms };
}

async function take() {
  const token = randomBytes(16).toString("hex");
  const sha = await ask("SCRIPT", "LOAD", readFileSync(scriptPath));
  const until = performance.now() + Number(waitMs);
  for (;;) {
    const { wait, ...answer } = await tryOnce(sha, token);
    if (!wait || performance.now() >= until) return answer;
    await sleep(PAUSE_MS);
  }
}

dial();
const answer = await take().catch((error) => ({ word: "redis_unavailable", detail: error.message }));
console.log(JSON.stringify(answer));
socket.end();
process.exitCode = answer.word === "taken" ? 0 : 1;
