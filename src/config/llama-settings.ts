import { z } from "zod";
import { count, duration, setting, size } from "./setting.ts";

/** Values by which users of llama.cpp and of the original say "you decide". */
const automatic = { "-1": null, "0": null, auto: null };
const probability = z.number().min(0).max(1);

const name = z.string().min(1);

/** `llama`: the embedded engine. */
export const llama = z.strictObject({
  model: setting(
    z.union([name, z.array(name).min(1)]).exactOptional(),
    "A GGUF file, a folder of them, or a list of these (in one text separated as in PATH: `:`, on Windows `;`). `huggingface`, `lmstudio` and `ollama` stand for the models that these programs have fetched, used where they lie. Those of `lair pull` are always there. Without it: the folder `models` if there is one here; the demo model if nothing is found.",
    {
      env: ["LLAMA_CPP_MODEL"],
      flag: "model",
      short: "m",
    },
  ),
  contextLength: setting(
    count.exactOptional(),
    "Tokens of context for each session; absent: what the model was trained for, at most 16384.",
    {
      env: ["LLAMA_CPP_N_CTX"],
      flag: "ctx",
      spellings: automatic,
    },
  ),
  maxNewTokens: setting(
    count.exactOptional(),
    "Most tokens of one answer, where the request names none; absent: what the context leaves.",
    {
      env: ["LLAMA_CPP_MAX_NEW_TOKENS", "LLAMA_CPP_MAX_TOKENS"],
      spellings: automatic,
    },
  ),
  flashAttention: setting(
    z.enum(["auto", "on", "off"]).default("auto"),
    "Flash attention: less memory, often faster.",
    {
      env: ["LLAMA_CPP_FLASH_ATTN"],
      spellings: {
        enabled: "on",
        enable: "on",
        "1": "on",
        true: "on",
        yes: "on",
        disabled: "off",
        disable: "off",
        "0": "off",
        false: "off",
        no: "off",
      },
    },
  ),
  batchSize: setting(count.exactOptional(), "Most prompt tokens given to the model at once; absent: 2048.", {
    env: ["LLAMA_CPP_N_BATCH"],
    spellings: automatic,
  }),
  ubatchSize: setting(count.exactOptional(), "Most tokens computed at once; absent: 512.", {
    env: ["LLAMA_CPP_N_UBATCH"],
    spellings: automatic,
  }),
  gpuLayers: setting(
    z.union([z.int().min(0), z.literal("all")]).default("all"),
    "Layers computed on the GPU. Without a GPU it has no effect.",
    {
      env: ["LLAMA_CPP_N_GPU_LAYERS", "LLAMA_CPP_GPU_LAYERS"],
      flag: "gpu-layers",
      spellings: { "-1": "all", max: "all", auto: "all" },
    },
  ),
  offloadKqv: setting(z.boolean().default(true), "Keep the context's keys and values on the GPU too.", {
    env: ["LLAMA_CPP_OFFLOAD_KQV"],
  }),
  mainGpu: setting(z.int().min(0).default(0), "The GPU used where one is used alone.", { env: ["LLAMA_CPP_MAIN_GPU"] }),
  splitMode: setting(z.enum(["none", "layer", "row"]).default("layer"), "How a model is spread over several GPUs.", {
    env: ["LLAMA_CPP_SPLIT_MODE"],
    spellings: { single: "none", layers: "layer", rows: "row" },
  }),
  threads: setting(count.exactOptional(), "CPU threads for answers; absent: the physical cores.", {
    env: ["LLAMA_CPP_N_THREADS"],
    flag: "threads",
    spellings: automatic,
  }),
  threadsBatch: setting(count.exactOptional(), "CPU threads for prompts; absent: as `llama.threads`.", {
    env: ["LLAMA_CPP_N_THREADS_BATCH"],
    spellings: automatic,
  }),
  temperature: setting(
    z.number().min(0).exactOptional(),
    "Where the request names none: 0 takes the likeliest token, higher is more varied; absent: what the model's file recommends, else 0.8.",
    { env: ["LLAMA_CPP_TEMPERATURE"] },
  ),
  topP: setting(
    probability.exactOptional(),
    "Where the request names none: only the likeliest tokens of this total probability; absent: what the model's file recommends, else 0.95.",
    { env: ["LLAMA_CPP_TOP_P"] },
  ),
  topK: setting(
    z.int().min(0).exactOptional(),
    "Where the request names none: only this many of the likeliest tokens, 0 for all; absent: what the model's file recommends, else 40.",
    { env: ["LLAMA_CPP_TOP_K"] },
  ),
  minP: setting(
    probability.exactOptional(),
    "Where the request names none: only tokens at least this likely, relative to the likeliest; absent: what the model's file recommends, else 0.05.",
    { env: ["LLAMA_CPP_MIN_P"] },
  ),
  seed: setting(
    z.int().min(0).max(0xffffffff).exactOptional(),
    "Where the request names none: the same seed gives the same answer; absent or -1: another each time.",
    {
      env: ["LLAMA_CPP_SEED"],
      spellings: { "-1": null, random: null },
    },
  ),
  repeatPenalty: setting(
    z.number().gt(0).exactOptional(),
    "Where the request names none: above 1, tokens said before become less likely; absent: what the model's file recommends, else 1, which is off.",
    { env: ["LLAMA_CPP_REPEAT_PENALTY"] },
  ),
  penaltyLastN: setting(
    z.int().min(-1).exactOptional(),
    "How many of the last tokens the penalty looks at; 0: off, -1: the whole context; absent: what the model's file recommends, else 64.",
    { env: ["LLAMA_CPP_PENALTY_LAST_N"] },
  ),
  draft: setting(
    z.string().min(1).default("off"),
    "Tokens guessed ahead and checked by the model in one go, which leaves the answers as they are: `off`, `lookup` (repetitions of the text so far), or the id or file of a smaller model with the same vocabulary.",
    {
      env: ["LLAMA_CPP_DRAFT", "LLAMA_CPP_DRAFT_MODEL"],
      flag: "draft",
      spellings: { none: "off", false: "off", "0": "off", ngram: "lookup" },
    },
  ),
  draftMax: setting(
    z.int().min(1).max(64).default(16),
    "Most tokens guessed ahead at a time, by all requests of a model together.",
    { env: ["LLAMA_CPP_DRAFT_MAX"] },
  ),
  draftMin: setting(z.int().min(1).max(64).default(2), "Fewest tokens that are worth a guess.", {
    env: ["LLAMA_CPP_DRAFT_MIN"],
  }),
  useJinja: setting(
    z.boolean().default(true),
    "Use the model's own chat template; `false`: a plain ChatML prompt for every model.",
    { env: ["LLAMA_CPP_USE_JINJA"] },
  ),
  pooling: setting(
    z.enum(["mean", "cls", "last", "rank"]).exactOptional(),
    "Makes a model one of embeddings (`rank`: of relevances) whose file does not say that it is one.",
    { env: ["LLAMA_CPP_POOLING"] },
  ),
  maxSessions: setting(
    z.int().min(1).max(256).exactOptional(),
    "Requests answered at the same time by one model; absent: 2.",
    {
      env: ["LLAMA_CPP_MAX_SESSIONS"],
      flag: "sessions",
      spellings: automatic,
    },
  ),
  unloadAfterChat: setting(
    z.boolean().default(false),
    "Give the model's memory back as soon as it has nothing to do.",
    { env: ["LLAMA_CPP_UNLOAD_AFTER_CHAT"] },
  ),
  keepAlive: setting(
    duration.exactOptional(),
    "How long an unused model stays in memory, where the request does not say (`keep_alive`); `0`: not at all; absent: until its room is needed.",
    { env: ["LLAMA_CPP_KEEP_ALIVE"], unit: "duration", spellings: { "-1": null } },
  ),
  memoryBudget: setting(
    z.union([size, z.literal("unlimited")]).exactOptional(),
    "Memory for all models together; where a model needs more than is left of it, the one unused longest is unloaded first. `unlimited`: no bound; absent: 80 % of the memory that the machine or the container has.",
    { env: ["LLAMA_CPP_MEMORY"], unit: "size" },
  ),
  maxLoaded: setting(count.exactOptional(), "Most models in memory at a time; absent: as many as the memory allows.", {
    env: ["LLAMA_CPP_MAX_LOADED"],
    spellings: automatic,
  }),
  defaultModel: setting(
    name.exactOptional(),
    "The model that the name `default` means; absent: the first that chats.",
    {
      env: ["LLAMA_CPP_DEFAULT_MODEL"],
    },
  ),
  aliases: setting(z.record(name, name).default({}), "Further names of models: alias → id.", {
    env: ["LLAMA_CPP_ALIASES"],
  }),
  maxQueue: setting(
    count.exactOptional(),
    "Most requests that wait for one model; beyond it they are refused; absent: 128.",
  ),
  cacheFolder: setting(
    z.string().min(1).exactOptional(),
    "Where prompts are kept for the next start; absent: the user's folder for caches.",
    { env: ["LLAMA_CPP_CACHE_DIR"] },
  ),
  cacheBytes: setting(
    size.prefault("4GB"),
    "Most that they take there, and never more than a tenth of the free disk; 0: none is kept.",
    { env: ["LLAMA_CPP_CACHE_BYTES"], unit: "size" },
  ),
  library: setting(
    z.string().min(1).exactOptional(),
    "A folder with another build (e.g. for CUDA) of the same llama.cpp release; absent: the one that was installed.",
    { env: ["LLAMA_CPP_LIB"] },
  ),
  server: setting(
    z.string().min(1).exactOptional(),
    "Path of a `llama-server` program, which is started for models that the embedded llama.cpp does not serve as well: those with a projector for images or sound.",
    { env: ["LLAMA_SERVER_BIN"] },
  ),
  serverModels: setting(
    z.enum(["images", "all"]).default("images"),
    "Which models `llama.server` serves: those with a projector beside them, or all.",
    { env: ["LLAMA_SERVER_MODELS"] },
  ),
  gpu: setting(
    z.enum(["auto", "off", "cuda", "vulkan", "metal"]).default("auto"),
    "What computes: `auto` takes a GPU where a package for it is installed (`lair engine install`) and it answers, `off` none; with any other, a model that cannot have that GPU is refused.",
    {
      env: ["LLAMA_CPP_GPU"],
      flag: "gpu",
      spellings: {
        cpu: "off",
        none: "off",
        no: "off",
        false: "off",
        "0": "off",
        on: "auto",
        true: "auto",
        "1": "auto",
      },
    },
  ),
  demo: setting(
    z.boolean().default(false),
    "Offer the built-in demo model beside the others; without any other model or configured provider it is offered anyway.",
    { flag: "demo" },
  ),
});
