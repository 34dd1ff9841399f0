"""ENEL's token embedding in PyTorch: clouds of coloured points to point tokens, timed.

Two forms of the same function. `plain` is the description layer by layer, as a reader of the paper writes it. `tuned`
is what PyTorch allows a careful writer: BatchNorm folded into weights, the first linear layer before the gather, the
position code's six values added once, one farthest-point search for all stages.

Source: arXiv 2502.09620 v4, section 3.1 and appendix A.2; widths, neighbours and the position code's constants (alpha =
beta = 1) from the released configuration.

    python embed.py --config paper --threads 2 --repeat 5 --json
    python embed.py --check GOLDEN_VALUES
"""

import argparse
import copy
import dataclasses
import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

import golden
import timing

SMALLEST_SPREAD = 1e-5  # added to a spread before dividing by it
FAR = 1e10  # squared distance before any centre is chosen

# Golden against an f32 implementation: seen 4e-7, a wrong BatchNorm epsilon is 3e-5.
TOLERANCE = 5e-6
# bf16 keeps 8 bits, and rounds a dozen times on the way.
ROUGH_TOLERANCE = 3e-2


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of an embedder."""

    n_points: int = 8192
    n_centres: tuple = (512, 256, 128)
    group_size: int = 81
    embed_dim: int = 288
    alpha: float = 1.0
    beta: float = 1.0


CONFIGS = {
    "paper": Config(),
    "enel-135m": Config(embed_dim=144),
    "small": Config(n_points=2048, group_size=32, embed_dim=96),
}


class ConvNorm(nn.Module):
    """A 1x1 convolution and its BatchNorm."""

    def __init__(self, width_in: int, width_out: int, n_spatial: int, bias: bool):
        super().__init__()
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[n_spatial - 1]
        self.conv, self.norm = conv(width_in, width_out, 1, bias=bias), norm(width_out)

    def forward(self, x):
        return self.norm(self.conv(x))

    def folded(self):
        """Weight [out, in] and bias [out] of the linear layer that both are together."""
        scale, shift = affine(self.norm)
        weight = self.conv.weight.flatten(1).float() * scale[:, None]
        return weight, shift if self.conv.bias is None else shift + self.conv.bias.float() * scale


class PlainStage(nn.Module):
    """Centres gather their neighbours; one linear layer, the position code, one bottleneck, a maximum."""

    def __init__(self, width_in: int, config: Config):
        super().__init__()
        width = 2 * width_in
        self.config = config
        self.mix = ConvNorm(width, width, 1, bias=False)
        self.down = ConvNorm(width, width // 2, 2, bias=True)
        self.up = ConvNorm(width // 2, width, 2, bias=True)
        self.pool_norm = nn.BatchNorm1d(width)

    def forward(self, xyz, x, centres):
        """xyz [B,N,3], x [B,N,C], centres [B,G] to centres' xyz [B,G,3], features [B,G,2C], neighbours [B,G,K]."""
        centre_xyz, centre_x = rows(xyz, centres), rows(x, centres)
        knn = neighbours(centre_xyz, xyz, self.config.group_size)
        near_xyz, near_x = rows(xyz, knn) - centre_xyz[:, :, None], rows(x, knn) - centre_x[:, :, None]
        near_xyz = near_xyz / (near_xyz.std() + SMALLEST_SPREAD)
        near_x = near_x / (near_x.std() + SMALLEST_SPREAD)

        h = torch.cat([near_x, centre_x[:, :, None].expand_as(near_x)], dim=-1).permute(0, 3, 1, 2)
        batch, width, n_groups, k = h.shape
        h = F.relu(self.mix(h.reshape(batch, width, n_groups * k)), inplace=True).view(batch, width, n_groups, k)
        h = h + self.code(near_xyz, width).to(h.dtype)
        h = F.relu(self.up(F.relu(self.down(h), inplace=True)) + h, inplace=True)
        pooled = F.gelu(self.pool_norm(h.amax(dim=-1)))
        return centre_xyz, pooled.transpose(1, 2), knn

    def code(self, p, width: int):
        """Position code of offsets p [B,G,K,3] as [B,width,G,K]: for each axis, sines and cosines in turn."""
        n_freqs = width // 6
        exponent = torch.arange(n_freqs, device=p.device, dtype=p.dtype) / n_freqs
        angles = p.permute(0, 3, 1, 2)[:, :, None] * (self.config.beta / self.config.alpha**exponent)[:, None, None]
        return torch.stack([angles.sin(), angles.cos()], dim=3).flatten(1, 3)


class TunedStage(nn.Module):
    """The same function as a `PlainStage` whose weights it takes."""

    def __init__(self, plain: PlainStage):
        super().__init__()
        if (plain.config.alpha, plain.config.beta) != (1.0, 1.0):
            raise ValueError("the six values of the position code need alpha = beta = 1")
        dtype = plain.mix.conv.weight.dtype
        self.config = plain.config
        weight, bias = plain.mix.folded()
        near, centre = weight.chunk(2, dim=1)
        parts = {"near": near, "centre": centre, "mix_bias": bias}
        parts["down"], parts["down_bias"] = plain.down.folded()
        parts["up"], parts["up_bias"] = plain.up.folded()
        parts["pool_scale"], parts["pool_shift"] = affine(plain.pool_norm)
        for name, value in parts.items():
            self.register_buffer(name, value.detach().to(dtype).contiguous())

    def forward(self, xyz, x, centres):
        """As `PlainStage.forward`."""
        centre_xyz, centre_x = rows(xyz, centres), rows(x, centres)
        knn = neighbours(centre_xyz, xyz, self.config.group_size)
        near_xyz = rows(xyz, knn) - centre_xyz[:, :, None]
        near_xyz = near_xyz / (near_xyz.std() + SMALLEST_SPREAD)
        spread = (rows(x, knn) - centre_x[:, :, None]).std() + SMALLEST_SPREAD

        # Linear in x, so each point is multiplied once and not once for every centre it is near to.
        linear = F.linear(x, self.near) / spread
        of_centre = F.linear(centre_x, self.centre, self.mix_bias) - rows(linear, centres)
        h = rows(linear, knn).add_(of_centre[:, :, None]).relu_()
        values = torch.stack([near_xyz.sin(), near_xyz.cos()], dim=-1).to(h.dtype)
        h.view(*h.shape[:3], 3, h.shape[3] // 6, 2).add_(values[:, :, :, :, None])
        inner = F.linear(h, self.down, self.down_bias).relu_()
        h = F.linear(inner, self.up, self.up_bias).add_(h).relu_()
        pooled = F.gelu(h.amax(dim=2) * self.pool_scale + self.pool_shift)
        return centre_xyz, pooled, knn


class Embedder(nn.Module):
    """Clouds [B,N,6] to tokens [B,1+G,C], the class token first."""

    nested = False  # whether one farthest-point search serves all stages

    def __init__(self, config: Config):
        super().__init__()
        self.config, width = config, config.embed_dim
        self.raw = ConvNorm(6, width, 1, bias=False)
        self.stages = nn.ModuleList(PlainStage(width << i, config) for i in range(len(config.n_centres)))
        self.class_token = nn.Parameter(torch.randn(1, 1, width << len(config.n_centres)))
        self.step = farthest_step

    def forward(self, points, trace=None):
        """`trace`, a list, receives what each stage chose: centres and neighbours."""
        dtype = self.class_token.dtype
        xyz = points[..., :3].contiguous()
        x = F.relu(self.raw(points.transpose(1, 2).to(dtype))).transpose(1, 2)
        for at, (stage, count) in enumerate(zip(self.stages, self.config.n_centres)):
            if self.nested and at > 0:
                # Centres stand in the order they were chosen in, so the first ones are the next stage's.
                centres = torch.arange(count, device=xyz.device).expand(xyz.shape[0], count)
            else:
                centres = farthest(xyz, count, self.step)
            xyz, x, knn = stage(xyz, x, centres)
            if trace is not None:
                trace.append((centres, knn))
        return torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1)

    def tuned(self):
        """Turns the stages of this embedder into their tuned form."""
        self.nested = True
        self.stages = nn.ModuleList(TunedStage(stage) for stage in self.stages)
        return self

    def compile_parts(self):
        """Compiles the stages and one step of the farthest-point search, whose loop would unroll into thousands of nodes."""
        self.step = torch.compile(farthest_step)
        for stage in self.stages:
            stage.compile()
        return self


def rows(table, index):
    """table [B,N,C], index [B,...] to [B,...,C]."""
    batch, n_rows, width = table.shape
    first = torch.arange(batch, device=index.device).view(batch, *[1] * (index.dim() - 1)) * n_rows
    return table.reshape(batch * n_rows, width).index_select(0, (index + first).flatten()).view(*index.shape, width)


def neighbours(centres, points, k: int):
    """Indices of the `k` points nearest to each centre, itself included, in no order: [B,G,3], [B,N,3] to [B,G,K]."""
    distance = centres.square().sum(-1)[:, :, None] + points.square().sum(-1)[:, None]
    distance = torch.baddbmm(distance, centres, points.transpose(1, 2), alpha=-2)
    return distance.topk(k, dim=-1, largest=False, sorted=False).indices


def farthest(xyz, count: int, step):
    """Indices of `count` points, each the farthest from those before; the first is point 0: [B,N,3] to [B,count]."""
    planes = xyz.transpose(1, 2).contiguous()
    last = torch.zeros(xyz.shape[0], 1, dtype=torch.long, device=xyz.device)
    nearest = torch.full((xyz.shape[0], xyz.shape[1]), FAR, device=xyz.device)
    chosen = [last]
    for _ in range(count - 1):
        nearest, last = step(planes, nearest, last)
        chosen.append(last)
    return torch.cat(chosen, dim=1)


def farthest_step(planes, nearest, last):
    """One choice: planes [B,3,N], squared distances to the chosen so far [B,N], the last one [B,1]."""
    centre = planes.gather(2, last[:, None].expand(-1, 3, 1))
    nearest = torch.minimum(nearest, (planes - centre).square().sum(1))
    return nearest, nearest.argmax(-1, keepdim=True)


def affine(norm):
    """Scale and shift of a BatchNorm that no longer learns, in f32."""
    scale = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    return scale, norm.bias.float() - norm.running_mean.float() * scale


def torus(n_clouds: int, n_points: int):
    """Coloured points on tori, inside the unit ball: [B,N,6]. Times hardly depend on the shape."""
    u, v = (2 * math.pi * torch.rand(2, n_clouds, n_points)).unbind(0)
    ring = 0.7 + 0.3 * v.cos()
    xyz = torch.stack([ring * u.cos(), ring * u.sin(), 0.3 * v.sin()], dim=-1)
    return torch.cat([xyz, torch.rand(n_clouds, n_points, 3)], dim=-1)


# Our module names of a stage and those of released checkpoints.
RELEASED_STAGE_NAMES = [("mix", "linear1.net"), ("down", "linear2.0.net1"), ("up", "linear2.0.net2")]


def load_released(model: Embedder, weights: dict) -> Embedder:
    """Fills `model` from tensors under the released names; every tensor must find its place."""
    names = [("raw", "EncNP.raw_point_embed.net")]
    state = {"class_token": weights["class_embedding"]}
    for i in range(len(model.stages)):
        names += [(f"stages.{i}.{own}", f"EncNP.LGA_list.{i}.{name}") for own, name in RELEASED_STAGE_NAMES]
        prefix = f"EncNP.Pooling_list.{i}.out_transform.0."
        state |= {f"stages.{i}.pool_norm.{key[len(prefix):]}": w for key, w in weights.items() if key.startswith(prefix)}
    for own, name in names:
        for part, at in (("conv", 0), ("norm", 1)):
            prefix = f"{name}.{at}."
            state |= {f"{own}.{part}.{key[len(prefix):]}": w for key, w in weights.items() if key.startswith(prefix)}
    model.load_state_dict(state)
    return model


def build(config: Config, args, device) -> Embedder:
    """A random embedder in the form, on the device and in the dtype asked for."""
    model = Embedder(config).eval().to(device=device, dtype=timing.DTYPES[args.dtype])
    if args.form == "tuned":
        model.tuned()
    return model.compile_parts() if args.compile else model


def check(args, device) -> int:
    """Both forms against each other and, where given, against golden values."""
    checker = golden.Checker()
    config = Config(n_points=512, n_centres=(64, 32, 16), group_size=16, embed_dim=24)
    model = Embedder(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5)
    points, model = torus(2, config.n_points).to(device), model.to(device)
    plain = model(points)
    rough = copy.deepcopy(model).to(torch.bfloat16)
    checker.close("forms", "plain in bf16", rough(points), plain.cpu(), ROUGH_TOLERANCE)
    checker.close("forms", "tuned in bf16", rough.tuned()(points), plain.cpu(), ROUGH_TOLERANCE)
    checker.close("forms", "tuned = plain", model.tuned()(points), plain.cpu(), TOLERANCE)
    for case in golden.cases(args.check, "a_token_eval_*") if args.check else []:
        check_case(checker, case, device)
    return checker.finish(args.json)


def check_case(checker, case, device) -> None:
    """One golden case in both forms."""
    sizes = case.config
    centres = tuple(sizes["input_points"] >> i for i in (1, 2, 3))
    config = Config(sizes["n"], centres, sizes["group_size"], sizes["embed_dim"])
    for form in ("plain", "tuned"):
        model = load_released(Embedder(config), case.weights()).eval().to(device)
        if form == "tuned":
            model.tuned()
        trace = []
        tokens = model(case.tensors["in.points"].to(device), trace)
        for i, (chosen, knn) in enumerate(trace):
            checker.equal(case.name, f"{form} stage{i}.fps_idx", chosen, case.tensors[f"act.stage{i}.fps_idx"])
            want = case.tensors[f"act.stage{i}.knn_idx_sorted"]
            checker.equal(case.name, f"{form} stage{i}.knn_idx", knn.sort(dim=-1).values, want)
        checker.close(case.name, f"{form} point_features", tokens, case.tensors["act.point_features"], TOLERANCE)


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=CONFIGS, default="paper", help="sizes (default: %(default)s)")
    parser.add_argument("--form", choices=("plain", "tuned"), default="plain", help="how it is written")
    parser.add_argument("--clouds", type=int, default=1, metavar="N", help="clouds at once")
    timing.add_arguments(parser)
    args = parser.parse_args()
    device = timing.prepare(args)
    if args.check is not None:
        return check(args, device)
    config = CONFIGS[args.config]
    model, points = build(config, args, device), torus(args.clouds, config.n_points).to(device)
    result = timing.measure(lambda: model(points), args, device)
    timing.report({"work": "embed", "config": args.config, "form": args.form, "clouds": args.clouds} | result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
