"""What does a reader see of a run? One table of all steps, then the tables of what was timed."""

# Groups whose results are the runner's of `peers/`.
TIMED = ("beside PyTorch", "beside recorded PyTorch")
MARKS = {"ok": "ok", "failed": "FAILED", "late": "LATE", "skipped": "skipped"}


def summary(run: dict) -> str:
    """The run as Markdown."""
    lines = [headline(run), "", "| step | state | s | result |", "|---|---|---|---|"]
    for step in run["steps"]:
        line = step["summary"].replace("|", "/").replace("\n", " ")[:200]
        lines.append(f"| {step['name']} | {MARKS[step['status']]} | {step['seconds']:.1f} | {line} |")
    counts = {status: sum(step["status"] == status for step in run["steps"]) for status in MARKS}
    lines += ["", ", ".join(f"{count} {status}" for status, count in counts.items()) + f"; {run['seconds']:.0f} s in all."]
    lines += times(run) + slowest(run)
    return "\n".join(lines) + "\n"


def headline(run: dict) -> str:
    facts, made = run["facts"], run["made"]
    card, torch = facts.get("card") or {}, facts.get("torch") or {}
    parts = [
        f"Device {run['device']}",
        f"card {card.get('name', 'none')}" + (f", driver {card['driver_version']}" if card else ""),
        f"compiler library {facts['enel']['nvrtc']['detail']}",
        f"torch {torch.get('torch', 'none')}",
        f"{facts['machine']['cpu']}, {facts['machine']['cores']} cores",
        f"commit {made['commit'][:12]}{' with changes' if made['changed'] else ''}",
        run["date"],
    ]
    return "; ".join(parts) + "."


def times(run: dict) -> list:
    """Medians of all programs and ratios, with the share of what the ceilings allow."""
    lines = []
    for step in run["steps"]:
        if step["group"] not in TIMED or not step["result"]:
            continue
        for found in step["result"]["work"].values():
            lines += ["", f"{step['name']}:", "", "| program | dtype | median ms | of ceiling |", "|---|---|---|---|"]
            for p in found["programs"]:
                share = of_ceiling(run, p)
                share = "" if share is None else f"{share:.2f}"
                lines.append(f"| {p['name']} | {p['dtype']} | {1e3 * p['median_s']:.3f} | {share} |")
            lines += ["", "| theirs / ours | median | min | max |", "|---|---|---|---|"]
            for r in found["ratios"]:
                lines.append(f"| {r['theirs']} / {r['ours']} | {r['median']:.2f} | {r['min']:.2f} | {r['max']:.2f} |")
    return lines


def of_ceiling(run: dict, program: dict) -> float | None:
    """Time the card's measured rates allow over the time taken; ours alone says how much work it is."""
    found = [step["result"] for step in run["steps"] if step["name"] == "ceilings" and step["status"] == "ok"]
    work = program["rounds"][0]
    if not found or "gflop" not in work or not run["device"].startswith("cuda"):
        return None
    rate = found[0]["bf16_tflops" if program["dtype"] == "bf16" else "f32_tflops"]
    limit_s = max(work["gflop"] / rate / 1e3, work["read_gb"] / found[0]["copy_gb_per_s"])
    return limit_s / program["median_s"]


def slowest(run: dict) -> list:
    lines = []
    for step in run["steps"]:
        rows = (step.get("result") or {}).get("slowest")
        if rows:
            lines += ["", f"{step['name']}, slowest:", "", "| kernel | launches | us in all |", "|---|---|---|"]
            lines += [f"| {row['name']} | {row['launches']} | {row['time_us']:.1f} |" for row in rows]
    return lines
