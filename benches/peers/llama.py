"""A LLaMA decoder with a key-value cache in PyTorch, timed: a prompt, or one token after a prompt.

Query, key and value weights are one matrix, gate and up too; the cache is allocated once. Positions are plain numbers, so
every timed run has the same sizes: `decode` computes the token after the prompt again and again.

Source: Touvron et al. 2023, arXiv:2302.13971, section 2.2 (pre-RMSNorm, SwiGLU, rotary embeddings); rotary halves and
parameter names as the Hugging Face layout has them.

    python llama.py decode --config llama-110m --tokens 512 --dtype bf16 --threads 2 --json
    python llama.py --check GOLDEN_VALUES
"""

import argparse
import copy
import dataclasses
import sys

import torch
import torch.nn.functional as F
from torch import nn

import golden
import timing

ROPE_THETA = 10_000.0

# Golden against an f32 implementation: seen 2e-6, a wrong RMSNorm epsilon is 3e-5.
TOLERANCE = 1e-5
# bf16 keeps 8 bits, and rounds a dozen times on the way.
ROUGH_TOLERANCE = 3e-2


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a decoder."""

    hidden: int
    n_layers: int
    n_heads: int
    ffn: int
    vocab: int
    norm_eps: float = 1e-5
    tied: bool = True

    @property
    def head(self) -> int:
        return self.hidden // self.n_heads


CONFIGS = {
    "llama-110m": Config(768, 12, 12, 2048, 32_000),
    "small": Config(384, 8, 6, 1024, 8192),
    "enel-7b": Config(4096, 32, 32, 11_008, 32_003, norm_eps=1e-6, tied=False),
}


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to the stream."""

    def __init__(self, config: Config):
        super().__init__()
        hidden, ffn = config.hidden, config.ffn
        self.config = config
        self.attn_norm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.ffn_norm = nn.RMSNorm(hidden, eps=config.norm_eps)
        self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cache, start: int, rope):
        """x [B,T,C] at positions start.. ; cache [2,B,H,S,D] holds those before and receives these."""
        x = x + self.attend(self.attn_norm(x), cache, start, rope)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def attend(self, x, cache, start: int, rope):
        batch, n_tokens, hidden = x.shape
        end = start + n_tokens
        q, k, v = self.qkv(x).view(batch, n_tokens, 3, self.config.n_heads, self.config.head).permute(2, 0, 3, 1, 4)
        cache[0, :, :, start:end] = rotate(k, rope)
        cache[1, :, :, start:end] = v
        # A causal mask starts at the first key, so it serves a whole prompt; one token sees all there are.
        if start > 0 and n_tokens > 1:
            raise ValueError("several tokens after others need a mask of their own")
        keys, values = cache[:, :, :, :end]
        mixed = F.scaled_dot_product_attention(rotate(q, rope), keys, values, is_causal=n_tokens > 1)
        return self.out(mixed.transpose(1, 2).reshape(batch, n_tokens, hidden))


class Llama(nn.Module):
    """Token ids to scores of the next token."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.hidden)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.hidden, eps=config.norm_eps)
        self.head = nn.Linear(config.hidden, config.vocab, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight

    def forward(self, ids, cache, start: int, rope, n_scores: int = 1):
        """ids [B,T] to scores of the last `n_scores` tokens [B,n,V]; cache [L,2,B,H,S,D], rope as `Llama.rope`."""
        rope = rope[:, start : start + ids.shape[1]]
        x = self.embed(ids)
        for block, own in zip(self.blocks, cache):
            x = block(x, own, start, rope)
        return self.head(self.norm(x[:, -n_scores:]))

    def cache(self, batch: int, slots: int):
        """Room for `slots` tokens of each sample."""
        sizes = (self.config.n_layers, 2, batch, self.config.n_heads, slots, self.config.head)
        return torch.zeros(sizes, dtype=self.norm.weight.dtype, device=self.norm.weight.device)

    def rope(self, slots: int):
        """Cosines and sines of every position [2,S,D], each for both halves of a head."""
        head = self.config.head
        frequency = ROPE_THETA ** (-torch.arange(0, head, 2).float() / head)
        angles = torch.outer(torch.arange(slots).float(), frequency).repeat(1, 2)
        return torch.stack([angles.cos(), angles.sin()]).to(self.norm.weight)


def rotate(x, rope):
    """Rotary embedding of x [B,H,T,D]: the first half of a head turns with the second."""
    first, second = x.chunk(2, dim=-1)
    return x * rope[0] + torch.cat([-second, first], dim=-1) * rope[1]


def load_released(model: Llama, weights: dict) -> Llama:
    """Fills `model` from tensors under Hugging Face's names."""
    state = {"embed.weight": weights["model.embed_tokens.weight"], "norm.weight": weights["model.norm.weight"]}
    state["head.weight"] = weights["lm_head.weight"]
    for i in range(model.config.n_layers):
        def of(*names, layer=f"model.layers.{i}."):
            return torch.cat([weights[f"{layer}{name}.weight"] for name in names])

        state[f"blocks.{i}.attn_norm.weight"] = of("input_layernorm")
        state[f"blocks.{i}.qkv.weight"] = of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        state[f"blocks.{i}.out.weight"] = of("self_attn.o_proj")
        state[f"blocks.{i}.ffn_norm.weight"] = of("post_attention_layernorm")
        state[f"blocks.{i}.gate_up.weight"] = of("mlp.gate_proj", "mlp.up_proj")
        state[f"blocks.{i}.down.weight"] = of("mlp.down_proj")
    model.load_state_dict(state)
    return model


def random_model(config: Config, dtype, device) -> Llama:
    """Weights N(0, 0.02) made where they stay, so that a large model needs its own size and no more."""
    with torch.device("meta"):
        model = Llama(config).to(dtype)
    model.to_empty(device=device)
    if config.tied:
        model.head.weight = model.embed.weight
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.02)
        else:
            parameter.data.fill_(1)
    return model.eval()


def check(args, device) -> int:
    """A token at a time against all at once and, where given, against golden values."""
    checker = golden.Checker()
    model = random_model(Config(64, 2, 4, 128, 200), torch.float32, device)
    ids, rope = torch.randint(0, 200, (2, 24), device=device), model.rope(24)
    whole = model(ids, model.cache(2, 24), 0, rope, n_scores=24).cpu()
    compare_stepwise(checker, "random", model, ids, whole, TOLERANCE)
    rough = copy.deepcopy(model).to(torch.bfloat16)
    compare_stepwise(checker, "random, bf16,", rough, ids, whole, ROUGH_TOLERANCE)
    for case in golden.cases(args.check, "f_llama_*") if args.check else []:
        sizes = case.config
        names = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size", "rms_norm_eps")
        model = Llama(Config(*(sizes[name] for name in names), tied=False))
        model = load_released(model, case.weights()).eval().to(device)
        ids = case.tensors["in.input_ids"].to(device)
        # Padding is on the right, where a causal mask hides it from all that counts.
        rows = case.tensors["in.attention_mask"].bool()
        scores = model(ids, model.cache(*ids.shape), 0, model.rope(ids.shape[1]), n_scores=ids.shape[1])
        checker.close(case.name, "logits", scores.cpu()[rows], case.tensors["logits"][rows], TOLERANCE)
        if bool(rows.all()):
            compare_stepwise(checker, case.name, model, ids, case.tensors["logits"], TOLERANCE)
    return checker.finish(args.json)


def compare_stepwise(checker, name: str, model, ids, want, tolerance: float) -> None:
    """A prompt and then single tokens through the cache."""
    n_tokens = ids.shape[1]
    prompt, cache, rope = n_tokens // 2, model.cache(*ids.shape), model.rope(n_tokens)
    scores = [model(ids[:, :prompt], cache, 0, rope, n_scores=prompt)]
    scores += [model(ids[:, at : at + 1], cache, at, rope) for at in range(prompt, n_tokens)]
    checker.close(name, "logits through the cache", torch.cat(scores, dim=1), want, tolerance)


def prepare(args, device):
    """What is timed, as a function without arguments."""
    config = CONFIGS[args.config]
    model = random_model(config, timing.DTYPES[args.dtype], device)
    slots = args.tokens + 1
    cache, rope = model.cache(1, slots), model.rope(slots)
    ids = torch.randint(0, config.vocab, (1, slots), device=device)
    step = torch.compile(model) if args.compile else model
    if args.work == "prefill":
        return lambda: step(ids[:, :-1], cache, 0, rope)
    model(ids[:, :-1], cache, 0, rope)
    return lambda: step(ids[:, -1:], cache, args.tokens, rope)


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", nargs="?", choices=("prefill", "decode"), default="decode", help="what is timed")
    parser.add_argument("--config", choices=CONFIGS, default="llama-110m", help="sizes (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=512, metavar="N", help="of the prompt")
    timing.add_arguments(parser)
    args = parser.parse_args()
    device = timing.prepare(args)
    if args.check is not None:
        return check(args, device)
    result = timing.measure(prepare(args, device), args, device)
    timing.report({"work": args.work, "config": args.config, "tokens": args.tokens} | result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
