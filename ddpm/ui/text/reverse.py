"""Tab "Reverse", and the form and the player that other sampling tabs share."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "reverse.question": ("How does noise become a picture?", "噪声怎样变回图像？"),
    "reverse.body": (
        "Sampling starts from pure noise $x_T$. At every step the network predicts the [noise](eps_hat) "
        "$\\hat\\epsilon$ in the [current picture](xt) $x_t$, which implies a [guess](x0_hat) $\\hat x_0$ of the "
        "finished picture; one small step towards it gives $x_{t-1}$. The formula is that of DDPM; the other samplers "
        "take other steps from the same $\\hat\\epsilon$.",
        "采样从纯噪声 $x_T$ 出发。每一步网络预测[当前图像](xt) $x_t$ 中的[噪声](eps_hat) $\\hat\\epsilon$，"
        "由此得到对最终图像的[猜测](x0_hat) $\\hat x_0$；朝这个方向走一小步，就得到 $x_{t-1}$。这是 DDPM 的公式；"
        "其他采样器用同一个 $\\hat\\epsilon$，走法不同。",
    ),
    "reverse.try": (
        "Move $t$ from right to left. At which $t$ does $\\hat x_0$ already show the result, while $x_t$ still looks "
        "like noise?",
        "把 $t$ 从右向左拖。到哪个 $t$ 时 $\\hat x_0$ 已显出结果，而 $x_t$ 看上去还是噪声？",
    ),
    "reverse.why": (
        "Why does $\\hat x_0$ have a dashed frame? It is only a guess, the average of all pictures that could have led "
        "to this $x_t$: blurred at the noisy end, sharp at the clean end.||Why add noise $\\sigma_t z$ again? Each "
        "step draws from a distribution, $p_\\theta(x_{t-1}\\mid x_t)$. The paper tries two variances: the small "
        "$\\tilde\\beta_t$ and the large $\\beta_t$. DDIM with $\\eta=0$ adds no noise: $x_T$ alone decides the "
        "picture.||Why fewer steps than $T$? All samplers use the same network and can skip timesteps. Compare them "
        "with 10 steps: DPM-Solver++ is already good, DDIM draws the same picture as with many steps, only coarser, "
        "and DDPM draws a different one.",
        "为什么 $\\hat x_0$ 用虚线框？因为它只是猜测，是所有可能得到这个 $x_t$ 的图像的平均："
        "在噪声端模糊，在干净端清晰。||为什么又加回噪声 $\\sigma_t z$？每一步都是从分布 "
        "$p_\\theta(x_{t-1}\\mid x_t)$ 中采样。论文试了两种方差：较小的 $\\tilde\\beta_t$ 和较大的 $\\beta_t$。"
        "$\\eta=0$ 的 DDIM 不加噪声：图像完全由 $x_T$ 决定。||为什么步数可以少于 $T$？"
        "所有采样器用的是同一个网络，可以跳过一些时间步。用 10 步比较一下："
        "DPM-Solver++ 已经很好，DDIM 画出的仍是步数多时的那张图像，只是更粗略，DDPM 则会画出别的图像。",
    ),
    "reverse.sampler": ("Sampler", "采样器"),
    "sampler.ddpm": ("DDPM, the model’s σ", "DDPM，模型自带的 σ"),
    "sampler.ddpm_fixed_small": ("DDPM, small σ (β̃)", "DDPM，小 σ（β̃）"),
    "sampler.ddpm_fixed_large": ("DDPM, large σ (β)", "DDPM，大 σ（β）"),
    "sampler.ddim": ("DDIM", "DDIM"),
    "sampler.dpm_solver++": ("DPM-Solver++", "DPM-Solver++"),
    "reverse.steps": ("Steps", "步数"),
    "reverse.images": ("Pictures", "张数"),
    "reverse.seed": ("Seed", "随机种子"),
    "reverse.new_seed": ("New seed", "换一个种子"),
    "reverse.eta": ("η, fresh noise", "η，新噪声"),
    "reverse.label": ("Label", "标签"),
    "reverse.label.none": ("no label", "无标签"),
    "reverse.label.none_is": ("no label ({name})", "无标签（{name}）"),
    "reverse.label.said": (", label {name}, s = {s}", "，标签 {name}，s = {s}"),
    "reverse.scale": ("Guidance s", "引导强度 s"),
    "reverse.scale.label": (
        "Guidance s: ε = ε_0 + s (ε_c − ε_0), from 0 (as without a label) to 20; 1 is the label without guidance",
        "引导强度 s：ε = ε_0 + s (ε_c − ε_0)，取 0（等于无标签）到 20；1 表示只用标签、不加引导",
    ),
    "reverse.sample": ("Sample", "采样"),
    "reverse.stop": ("Stop", "停止"),
    "reverse.play": ("Play towards the picture", "向图像方向播放"),
    "reverse.play_back": ("Play towards the noise", "向噪声方向播放"),
    "reverse.pause": ("Pause", "暂停"),
    "reverse.speed": ("Playing speed", "播放速度"),
    "reverse.xt": ("the current picture", "当前图像"),
    "reverse.xt.label": ("Noisy pictures x_t", "加噪图像 x_t"),
    "reverse.x0_hat": ("the network’s guess", "网络的猜测"),
    "reverse.x0_hat.label": ("Guesses x_0 hat of the finished pictures", "对最终图像的猜测 x_0 hat"),
    "reverse.eps_hat": ("predicted noise", "预测的噪声"),
    "reverse.eps_hat.label": ("Predicted noise epsilon hat", "预测的噪声 epsilon hat"),
    "reverse.eps_hat.none": ("no noise left at $t=0$", "$t=0$ 时已无噪声"),
    "reverse.strip": ("Trajectory of picture {i}", "第 {i} 张图像的全过程"),
    "reverse.pick": ("follow picture {i}", "跟踪第 {i} 张图像"),
    "reverse.jump": ("go to t = {t}", "跳到 t = {t}"),
    "reverse.drawing": ("Drawing a first example …", "正在生成第一个示例……"),
    "reverse.example": ("Stored example: {summary}", "预先算好的示例：{summary}"),
    "reverse.waiting": ("Waiting for the model: another visitor is sampling …", "等待模型：另一位访客正在采样……"),
    "reverse.starting": ("Starting …", "正在启动……"),
    "reverse.running": ("Step {step} of {steps}", "第 {step} / {steps} 步"),
    "reverse.coming": ("The pictures are on their way …", "图像正在传输……"),
    "reverse.fetching": (
        "The pictures are on their way: {done} of {total} {total?frame:frames} …",
        "图像正在传输：{done} / {total} 帧……",
    ),
    "reverse.kept": ("{kept} of {steps} {steps?step:steps} kept", "保留 {steps} 步中的 {kept} 步"),
    "reverse.small": (
        "steps shown with {small} of {whole} pixels",
        "过程图像为 {small} 像素（原图 {whole}）",
    ),
    "reverse.comma": (", ", "，"),
    "reverse.done": ("{summary}. Move t to watch it again.", "{summary}。拖动 t 可以回看全过程。"),
    "reverse.stopped": (
        "Stopped at step {step} of {steps}; you can scrub through what was drawn.",
        "停在第 {step} / {steps} 步；已生成的部分可以拖动回看。",
    ),
    "reverse.summary": (
        "{sampler}, {steps} {steps?step:steps}{label}, seed {seed}, {seconds} s",
        "{sampler}，{steps} 步{label}，种子 {seed}，{seconds} 秒",
    ),
    "reverse.save_gif": ("Save $x_t$ and $\\hat x_0$ as GIF", "将 $x_t$ 与 $\\hat x_0$ 存为 GIF"),
    "reverse.save_gif.stop": ("Stop the GIF ({done} of {total})", "停止生成 GIF（{done} / {total}）"),
    "reverse.save_png": ("Save this $x_t$ as PNG", "将当前 $x_t$ 存为 PNG"),
    "reverse.busy": (
        "The model serves one visitor at a time, and many are waiting. Please try again in a moment.",
        "访客较多，模型一次只能服务一位。请稍后重试。",
    ),
    "reverse.failed": (
        "The server could not finish this sampling. Please try again.",
        "服务器未能完成这次采样，请重试。",
    ),
    "reverse.quiz": (
        "From which $t$ on does the guess $\\hat x_0$ show what the finished picture will be?",
        "从哪个 $t$ 起，猜测 $\\hat x_0$ 就看得出最终的图像？",
    ),
    "reverse.quiz.guess": ("My guess: $t=$", "我猜：$t=$"),
    "reverse.quiz.answer": (
        "The guess of the marked picture begins {start} away from the finished picture (root mean square). Half of "
        "that way is done at $t={half}$, and nine tenths at $t={near}$. At your guess, at $t={here}$ in this run, "
        "{left} is left.",
        "选中的图像，猜测起初与最终图像相差 {start}（均方根）。到 $t={half}$ 走完了一半，到 $t={near}$ 走完了九成。"
        "在你猜的位置（本次采样的 $t={here}$）还差 {left}。",
    ),
}
