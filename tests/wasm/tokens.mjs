// The bundled model's greedy tokens and all its logits, as one hash, from the C library as a WebAssembly module:
// node tokens.mjs attar_c.wasm attar-1m.gguf attar-1m.tokens
import { readFileSync } from "node:fs";

const [wasm, model_path, tokens_path] = process.argv.slice(2);
const { exports: attar } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(wasm)));

// Memory the library is lent: 64 is ATTAR_ALIGN. Views are made anew, as they end when memory grows.
let top = attar.__heap_base.value;
function place(bytes) {
  const start = Math.ceil(top / 64) * 64;
  top = start + bytes;
  const missing = top - attar.memory.buffer.byteLength;
  if (missing > 0) attar.memory.grow(Math.ceil(missing / 65536));
  return start;
}
const view = () => new DataView(attar.memory.buffer);
const bytes = (start, length) => new Uint8Array(attar.memory.buffer, start, length);

function check(status) {
  if (status !== 0) throw new Error(`status ${status}`);
}

// A struct of pointers and 32-bit numbers, or room for a result.
function words(...values) {
  const start = place(4 * values.length);
  values.forEach((value, i) => view().setUint32(start + 4 * i, value, true));
  return start;
}
const word = (start, i = 0) => view().getUint32(start + 4 * i, true);
const arena = (size) => words(place(size), size);

// FNV-1a.
let seen = 0xcbf29ce484222325n;
function hash(start, length) {
  for (const byte of bytes(start, length)) seen = BigInt.asUintN(64, (seen ^ BigInt(byte)) * 0x100000001b3n);
}

const file = readFileSync(model_path);
const data = place(file.length);
bytes(data, file.length).set(file);
const source = words(40, ...Array(9).fill(0)); // attar_source
check(attar.attar_source_memory(source, data, file.length));

// attar_config: a context of 160 tokens, one at a time; attar_plan_info: two numbers, then 64-bit ones.
const config = words(72, 160, 1, ...Array(15).fill(0));
const plan = words(56, ...Array(13).fill(0));
check(attar.attar_plan(source, config, arena(1 << 20), plan, 0));
const out = words(0);
check(attar.attar_model_open(source, config, arena(word(plan, 2)), out, 0, 0, 0));
const model = word(out);
check(attar.attar_session_open(model, config, arena(word(plan, 4)), out, 0));
const session = word(out);

const text = new TextEncoder().encode("Once upon a time");
const prompt = place(text.length);
bytes(prompt, text.length).set(text);
const [ids, count] = [place(64), words(16)];
check(attar.attar_tokenize(model, prompt, text.length, 0, arena(4096), ids, count));
check(attar.attar_prefill(session, ids, word(count), 0));

const [total, expected] = readFileSync(tokens_path, "utf8").trim().split("\n").pop().split(" ");
const room = words(0);
attar.attar_logits(session, 0, room); // says how many there are
const [logits, token] = [place(4 * word(room)), words(0)];
for (let i = 0; i < Number(total); ++i) {
  check(attar.attar_logits(session, logits, room));
  check(attar.attar_step(session, 0, token, 0));
  hash(logits, 4 * word(room));
  hash(token, 4);
}
const found = seen.toString(16).padStart(16, "0");
console.log(`${total} tokens with the hash ${found}`);
if (found !== expected) throw new Error(`expected ${expected}`);
