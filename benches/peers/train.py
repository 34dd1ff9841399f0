"""A step of ENEL's first stage in PyTorch, timed: hybrid loss, derivatives, clipping and AdamW.

The embedder in training mode, 30 % of the point tokens masked, a causal decoder over prompts of one length, features of
masked tokens (mean squared error) and patches of seen ones (Chamfer), cross-entropy over the answers. The embedder, the
projector, the heads and the first half of the layers learn; embeddings and the other layers do not.

Source: arXiv 2502.09620 v4, sections 3.1 and 3.2 and appendix A.2; sizes of the heads from the released configuration.

    python train.py --config small --clouds 4 --tokens 192 --threads 2 --json
    python train.py --check GOLDEN_VALUES
"""

import argparse
import dataclasses
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

import embed
import golden
import llama
import timing

MASKED = 0.3
RATE = 4e-4
IGNORE = -100
# Golden against an f32 implementation: forward 1e-5, derivatives 5e-4, as the golden values' own notes give them.
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 5e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a model."""

    embedder: embed.Config
    decoder: llama.Config
    projection: tuple
    n_learning: int


CONFIGS = {"small": Config(embed.CONFIGS["small"], llama.CONFIGS["small"], (768, 768), 4)}


def mlp(*widths):
    """Linear layers with GELU between them."""
    layers = []
    for width_in, width_out in zip(widths, widths[1:]):
        layers += [nn.GELU(), nn.Linear(width_in, width_out)] if layers else [nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)


class Enel(nn.Module):
    """Clouds and prompts to the hybrid loss."""

    def __init__(self, config: Config):
        super().__init__()
        hidden = config.decoder.hidden
        width = config.embedder.embed_dim << len(config.embedder.n_centres)
        self.config = config
        self.embedder = embed.Embedder(config.embedder)
        self.project = mlp(width, *config.projection, hidden)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.mae_head = mlp(hidden, hidden // 4, hidden)
        self.recon_head = mlp(hidden, hidden // 2, hidden // 4, 3 * config.embedder.group_size)
        self.llama = llama.Llama(config.decoder)

    def learning(self):
        """The parameters of the first stage; all others stop learning."""
        for parameter in self.llama.parameters():
            parameter.requires_grad_(False)
        for block in self.llama.blocks[: self.config.n_learning]:
            for parameter in block.parameters():
                parameter.requires_grad_(True)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, points, ids, labels, masked, at: int):
        """points [B,N,6], ids and labels [B,T], masked [B,M] bool, equally many in each cloud; the class token stands at
        `at` in each prompt. Returns the three terms of the loss."""
        batch, trace = points.shape[0], []
        features = self.project(self.embedder(points, trace))
        xyz = points[..., :3]
        for chosen, _ in trace[:-1]:
            xyz = embed.rows(xyz, chosen)
        patches = embed.rows(xyz, trace[-1][1])
        tokens = features[:, 1:]
        n_masked = int(masked[0].sum())
        seen_tokens = tokens[~masked].view(batch, -1, tokens.shape[-1])
        masked_tokens = tokens[masked].view(batch, n_masked, -1)
        slots = torch.cat([features[:, :1], seen_tokens, self.mask_token.expand(batch, n_masked, -1)], dim=1)
        x = self.llama.embed(ids)
        x = torch.cat([x[:, :at], slots, x[:, at + slots.shape[1] :]], dim=1)
        rope = self.llama.rope(ids.shape[1])
        for block in self.llama.blocks:
            x = run_block(block, x, rope)
        x = self.llama.norm(x)
        scores = self.llama.head(x)
        ce = F.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
        first = at + 1
        states = x[:, first : first + tokens.shape[1]]
        seen_states, masked_states = states[:, :-n_masked], states[:, -n_masked:]
        mae = F.mse_loss(self.mae_head(masked_states), masked_tokens)
        seen_patches = patches[~masked]
        said = self.recon_head(seen_states).reshape(seen_patches.shape)
        return ce, mae, chamfer(said, seen_patches)


def run_block(block, x, rope):
    """A decoder block over whole prompts, without a cache."""
    batch, n_tokens, hidden = x.shape
    heads = (batch, n_tokens, 3, block.config.n_heads, block.config.head)
    q, k, v = block.qkv(block.attn_norm(x)).view(heads).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(llama.rotate(q, rope), llama.rotate(k, rope), v, is_causal=True)
    x = x + block.out(mixed.transpose(1, 2).reshape(batch, n_tokens, hidden))
    gate, up = block.gate_up(block.ffn_norm(x)).chunk(2, dim=-1)
    return x + block.down(F.silu(gate) * up)


def chamfer(a, b):
    """Mean squared distance to the nearest point of the other set, both ways: [S,K,3], [S,K,3]."""
    distance = (a[:, :, None] - b[:, None]).square().sum(-1)
    return distance.amin(2).mean() + distance.amin(1).mean()


def step(model, optimizer, parameters, batch):
    """One step: the loss, its derivatives, at most length 1, AdamW."""
    optimizer.zero_grad()
    loss = sum(model(*batch))
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return loss


def prepare(args, device):
    """What is timed, as a function without arguments."""
    config, dtype = CONFIGS[args.config], timing.DTYPES[args.dtype]
    model = Enel(config).to(device=device).train()
    for parameter in model.llama.parameters():
        parameter.data.normal_(0, 0.02) if parameter.dim() > 1 else parameter.data.fill_(1)
    model.to(dtype)
    parameters = model.learning()
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    n_points = config.embedder.n_centres[-1]
    points = embed.torus(args.clouds, config.embedder.n_points).to(device)
    ids = torch.randint(0, config.decoder.vocab, (args.clouds, args.tokens), device=device)
    labels = ids.clone()
    of_cloud = n_points + 1 + 2
    labels[:, : args.tokens - (args.tokens - of_cloud - 2) // 2] = IGNORE
    order = torch.rand(args.clouds, n_points, device=device).argsort(dim=1)
    masked = order < int(MASKED * n_points)
    if args.compile:
        model.embedder.compile_parts()
    return lambda: step(model, optimizer, parameters, (points, ids, labels, masked, 2))


def load(model: Enel, weights: dict) -> Enel:
    """Fills `model` from tensors under the released names."""
    def under(prefix):
        return {name[len(prefix):]: w for name, w in weights.items() if name.startswith(prefix)}

    embed.load_released(model.embedder, under("model.point_backbone."))
    llama.load_released(model.llama, weights)
    model.project.load_state_dict(under("model.point_proj."))
    model.mae_head.load_state_dict(under("mae_predict_head."))
    model.recon_head.load_state_dict(under("recon_predict_head."))
    model.mask_token.data.copy_(weights["model.mask_token"])
    return model


def check(args, device) -> int:
    """The terms of the loss and some derivatives against golden values; without them, that two steps lower the loss."""
    checker = golden.Checker()
    cases = golden.cases(args.check, "d_train_stage1") if args.check else []
    for case in cases:
        sizes = case.config
        centres = tuple(sizes["input_points"] >> i for i in (1, 2, 3))
        embedder = embed.Config(sizes["n"], centres, sizes["group_size"], sizes["embed_dim"])
        names = ("hidden_size", "num_layers", "num_heads", "intermediate_size")
        decoder = llama.Config(*(sizes[name] for name in names), 512, norm_eps=1e-6, tied=False)
        config = Config(embedder, decoder, tuple(sizes["projection_hidden_dim"]), sizes["tune_layer"])
        weights = golden.read_safetensors(pathlib.Path(args.check, "full_weights.safetensors"))
        model = load(Enel(config), weights).to(device).train()
        model.learning()
        given = case.tensors
        at = int((given["in.input_ids"][0] == 509).nonzero()[0])
        masked = given["in.mask.0"][:, 1:].bool()
        inputs = (given["in.point_clouds"], given["in.input_ids"], given["in.labels"], masked)
        terms = model(*(tensor.to(device) for tensor in inputs), at)
        for name, term in zip(("ce", "mae", "recon"), terms):
            checker.close(case.name, f"loss_{name}", term, given[f"act.loss_{name}"], TOLERANCE)
        sum(terms).backward()
        derivatives = {
            "mae_predict_head.0.weight": model.mae_head[0].weight,
            "recon_predict_head.4.weight": model.recon_head[4].weight,
            "model.mask_token": model.mask_token,
            "model.layers.1.mlp.down_proj.weight": model.llama.blocks[1].down.weight,
            "model.point_proj.0.weight": model.project[0].weight,
            "model.point_backbone.EncNP.LGA_list.0.linear1.net.0.weight": model.embedder.stages[0].mix.conv.weight,
        }
        for name, parameter in derivatives.items():
            checker.close(case.name, f"grad.{name}", parameter.grad, given[f"grad.{name}"], GRADIENT_TOLERANCE)
    if not cases:
        config = Config(
            embed.Config(256, (64, 32, 16), 8, 12), llama.Config(64, 2, 4, 128, 200), projection=(40, 48), n_learning=1
        )
        model = Enel(config).to(device).train()
        parameters = model.learning()
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
        ids = torch.randint(0, 200, (2, 40), device=device)
        masked = torch.rand(2, 16, device=device).argsort(dim=1) < 4
        batch = (embed.torus(2, 256).to(device), ids, ids, masked, 2)
        losses = [float(step(model, optimizer, parameters, batch).detach()) for _ in range(3)]
        falls = torch.tensor(float(losses[2] < losses[0]))
        checker.equal("random", "three steps lower the loss", falls, torch.ones(()))
    return checker.finish(args.json)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=CONFIGS, default="small", help="sizes (default: %(default)s)")
    parser.add_argument("--clouds", type=int, default=4, metavar="N", help="clouds of a step, a prompt each")
    parser.add_argument("--tokens", type=int, default=192, metavar="N", help="of a prompt, point tokens included")
    timing.add_arguments(parser)
    args = parser.parse_args()
    device = timing.prepare(args)
    if args.check is not None:
        return check(args, device)
    result = timing.measure(prepare(args, device), args, device)
    sizes = {"config": args.config, "clouds": args.clouds, "tokens": args.tokens}
    timing.report({"work": "train-step"} | sizes | result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
