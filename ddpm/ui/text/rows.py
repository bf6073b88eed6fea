"""Rows of pictures from the same noise: shared by the tabs "Compare" and "What goes wrong"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "rows.plane": ("What to show", "显示什么"),
    "rows.plane.xt": ("the current pictures x_t", "当前图像 x_t"),
    "rows.plane.x0_hat": ("the network’s guesses x_0 hat", "网络的猜测 x_0 hat"),
    "rows.plane.eps_hat": ("the predicted noise epsilon hat", "预测的噪声 epsilon hat"),
    "rows.name": ("{sampler}, {steps} {steps?step:steps}{label}", "{sampler}，{steps} 步{label}"),
    "rows.row": ("Row {i}: {name}", "第 {i} 行：{name}"),
    "rows.label": ("Row {i}, {name}: {what} at t = {t}", "第 {i} 行，{name}：{what}，t = {t}"),
    "rows.calls": ("{calls} network {calls?call:calls}", "{calls} 次网络调用"),
    "rows.seconds": ("{seconds} s", "{seconds} 秒"),
    "rows.away": ("finished pictures differ from row 1 by {away} (RMS)", "最终图像与第 1 行相差 {away}（均方根）"),
    "rows.reach": ("x̂₀ reaches ±{reach}", "x̂₀ 达到 ±{reach}"),
    "rows.running": ("Sampling, at t = {t}", "正在采样，t = {t}"),
    "rows.stopped": (
        "Stopped; you can scrub through what was drawn.",
        "已停止；已生成的部分可以拖动回看。",
    ),
    "rows.refused": ("Row {row}: ", "第 {row} 行："),
}
