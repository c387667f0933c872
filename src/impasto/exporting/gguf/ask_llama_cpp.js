// What llama.cpp makes of a GGUF file, by node-llama-cpp, in the words of ask_llama_cpp.py.
// In place of logits it gives log-probabilities: the same but for one number a position.
import fs from "fs";

const {getLlama, LlamaLogLevel} = await import(process.argv[2]);

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const llama = await getLlama({
    gpu: false, build: "never", logLevel: LlamaLogLevel.disabled, progressLogs: false, maxThreads: 1
});
const model = await llama.loadModel({modelPath: asked.file, gpuLayers: 0});
const context = await model.createContext({
    contextSize: asked.ids.length + 8,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32"
});
const sequence = context.getSequence();
const rows = [];
const all = {generateNext: {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}}};
const first = asked.ids.length - asked.one_by_one;
for (const ids of [asked.ids.slice(0, first), ...asked.ids.slice(first).map((id) => [id])]) {
    for (const output of await sequence.controlledEvaluate(ids.map((id) => [id, all])))
        rows.push(output.next.probabilities);
}
const size = rows[0].size;
const logits = new Float32Array(rows.length * size);
rows.forEach((row, i) => row.forEach((p, token) => { logits[i * size + token] = Math.log(p); }));
fs.writeFileSync(asked.logits, Buffer.from(logits.buffer));
const tokens = asked.texts.map((text) => model.tokenize(text, false));
console.log(JSON.stringify({tokens}));
process.exit(0);
