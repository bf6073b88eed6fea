"""Tab "The bound"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "bound.question": ("What does training minimise?", "训练要最小化什么？"),
    "bound.body": (
        "$L=-\\mathrm{ELBO}$ bounds the code length from above: the model codes [this picture](x0) in at most $L$ "
        "bits per dimension. $L$ is a [sum](total) of $T+1$ terms: each [step](kl) $L_{t-1}$ is the mean squared "
        "error of the noise times a weight $w_t$ that the schedule sets. Dividing by $\\ln 2$ turns nats into bits.",
        "$L=-\\mathrm{ELBO}$ 是编码长度的上界：用这个模型编码[这张图像](x0)，每维最多需要 $L$ 比特。"
        "$L$ 是 $T+1$ 项[之和](total)：[每一步](kl) $L_{t-1}$ 都是噪声的均方误差乘以由噪声调度决定的权重 $w_t$。"
        "除以 $\\ln 2$，奈特就换算成比特。",
    ),
    "bound.try": (
        "Switch to the simple loss: which timesteps gain weight? Then draw something unlike anything that the model "
        "has learnt: which terms rise?",
        "切换到简化损失：哪些时间步的权重变大了？再画一个与模型学过的都不同的图案：哪些项变大？",
    ),
    "bound.why": (
        "Why drop the weights? Most of the bound comes from the few steps with the smallest $t$, from details that "
        "nobody sees. $L_\\mathrm{simple}$ gives every step the same $w_t$, so training works on the noisy steps, "
        "which decide the shape of the picture. Codes get longer, but samples get better (section 3.4 of the "
        "paper).||Why is $L_0$ a [term of its own](reconstruction)? A pixel takes one of 256 values and has no "
        "density: $L_0$ is the negative log-likelihood of exactly these values. Nothing in $L_T$ is learnt: it "
        "measures how far $x_T$ is from pure noise.||Why is the curve not smooth? Each term is an expectation over "
        "$\\epsilon$, estimated here from a single draw. The bound clips $\\hat x_0$ as sampling does, so at the "
        "noisy end $L_{t-1}$ lies below $w_t$ times the error.||Why a choice of $\\sigma_t^2$? The network is the "
        "same, and only the code length changes. The paper fixes $\\sigma_t^2$; the optimal one follows from the "
        "errors of the network (Bao et al. 2022), and a network can learn it, too (Nichol & Dhariwal 2021).||Must one "
        "choose between the two losses? No. $w_t=(r_{t-1}/r_t-1)/2$ for the small variance, with the ratio "
        "$r_t=\\bar\\alpha_t/(1-\\bar\\alpha_t)$ of signal to noise. Where the log of $r_t$ falls linearly in "
        "$t$, every $w_t$ is the same, so the simple loss is the bound: to predict the noise is to minimise the code "
        "length. The tab Forward has this schedule, log-linear SNR, for comparison.",
        "为什么去掉权重？这个上界大部分落在 $t$ 最小的几步，花在肉眼看不出的细节上。"
        "$L_\\mathrm{simple}$ 让所有 $w_t$ 相同，训练便着力于噪声较大的步骤，图像的形状正是在那里决定的。编码变长，"
        "但样本变好（论文 3.4 节）。||为什么 $L_0$ [单独一项](reconstruction)？像素只取 256 个值之一，没有密度："
        "$L_0$ 是恰好得到这些值的负对数似然。$L_T$ 没有可学的东西：它表示 $x_T$ 离纯噪声有多远。||为什么曲线不光滑？"
        "每一项都是对 $\\epsilon$ 的期望，这里只用一次抽样来估计。计算时像采样一样截断 $\\hat x_0$，"
        "所以在噪声端 $L_{t-1}$ 小于 $w_t$ 乘以误差。||为什么可以选择 $\\sigma_t^2$？网络没有变，变的只是编码长度。"
        "论文把 $\\sigma_t^2$ 固定下来；最优方差由网络的误差算出（Bao 等，2022），"
        "也可以让网络去学（Nichol 与 Dhariwal，2021）。||"
        "两种损失必须二选一吗？不必。取小方差时 $w_t=(r_{t-1}/r_t-1)/2$，"
        "其中 $r_t=\\bar\\alpha_t/(1-\\bar\\alpha_t)$ 是信噪比。如果 $r_t$ 的对数随 $t$ 线性下降，所有 $w_t$ 就都相同，"
        "简化损失就是变分上界：预测噪声，就是最小化编码长度。"
        "“前向”标签页里可以用这种调度（对数线性信噪比）作比较。",
    ),
    "bound.prior": ("noise", "噪声端"),
    "bound.kl": ("steps", "各步"),
    "bound.reconstruction": ("pixels", "像素"),
    "bound.total": ("bits/dim", "比特/维"),
    "bound.loss": ("Which loss", "哪种损失"),
    "bound.loss.true": ("Variational bound", "变分上界"),
    "bound.loss.simple": ("Simple loss", "简化损失"),
    "bound.caption.true": ("bits per dimension of each term (dashed: without $w_t$)", "各项比特/维（虚线：无 $w_t$）"),
    "bound.caption.under": (
        "bits per dimension of each term (dashed: under {model})",
        "各项比特/维（虚线：换用 {model}）",
    ),
    "bound.variance": ("Variance $\\sigma_t^2$", "方差 $\\sigma_t^2$"),
    "bound.variance.fixed_small": ("fixed small", "固定（小）"),
    "bound.variance.fixed_large": ("fixed large", "固定（大）"),
    "bound.variance.optimal": ("optimal", "最优"),
    "bound.variance.learned_range": ("learned", "学习得到"),
    "bound.variance.learned": ("learned", "学习得到"),
    "bound.floor": (
        "{floor} bits of $L_0$ ({share}%, solid in the bar) are the price of a decoder of this width: a network whose "
        "$\\hat x_0$ is exact pays them, too.",
        "$L_0$ 中有 {floor} 比特（{share}%，条中的实心部分）是这一解码器宽度的代价：即使网络的 $\\hat x_0$ 完全正确，"
        "也要付出。",
    ),
    "bound.floor.learned": (
        "The network chooses the decoder’s width for each pixel. At the narrowest one, an exact $\\hat x_0$ costs "
        "{floor} bits ({share}% of $L_0$).",
        "网络为每个像素选择解码器的宽度。在最窄的宽度下，完全正确的 $\\hat x_0$ 只需 {floor} 比特"
        "（$L_0$ 的 {share}%）。",
    ),
    "bound.under": ("The same picture under", "同一张图像，换用"),
    "bound.under.none": ("no other model", "不换模型"),
    "bound.under.done": (
        "{model} codes it in at most {total} bits per dimension: {steps} for the steps, {pixels} for the pixels.",
        "{model} 编码它最多需要 {total} 比特/维：各步 {steps}，像素 {pixels}。",
    ),
    "bound.caption.simple": (
        "equal weights, scaled to the same sum (dashed: the bound)",
        "权重相同，缩放到同样的总和（虚线：变分上界）",
    ),
    "bound.starting": ("Starting …", "正在启动……"),
    "bound.waiting": ("Waiting for the model …", "等待模型……"),
    "bound.running": ("Term {done} of {total}", "第 {done} / {total} 项"),
    "bound.done": (
        "{n} {n?term:terms} and $L_T$ add up to {total} bits per dimension.",
        "{n} 项加上 $L_T$，共 {total} 比特/维。",
    ),
    "bound.stopped": ("Stopped after {done} of {total} {total?term:terms}.", "已停止，完成 {done} / {total} 项。"),
    "bound.stop": ("Stop", "停止"),
    "bound.again": ("Compute", "计算"),
    "bound.half": (
        "Half of the bits of all steps lie at $t\\le{bound}$. Without the weights, half of the loss lies at "
        "$t\\le{simple}$.",
        "各步的比特有一半落在 $t\\le{bound}$。去掉权重后，损失的一半落在 $t\\le{simple}$。",
    ),
    "chart.terms": ("terms of the bound", "变分上界的各项"),
    "chart.weights": ("weight in nats", "权重（奈特）"),
    "chart.errors": ("squared error of the noise", "噪声的平方误差"),
    "chart.share": ("share of the sum up to t", "到 t 为止占总和的比例"),
    "bound.quiz": (
        "Which half of the steps carries more of the bound, the clean or the noisy one?",
        "变分上界更多落在哪一半步骤：干净的一半，还是噪声大的一半？",
    ),
    "bound.quiz.early": ("the clean half, $t\\le T/2$", "干净的一半，$t\\le T/2$"),
    "bound.quiz.late": ("the noisy half, $t>T/2$", "噪声大的一半，$t>T/2$"),
    "bound.quiz.answer": (
        "For this picture, the clean half carries {bound} of the bits of all steps. Of the simple loss, it carries "
        "{simple}.",
        "对这张图像，各步的比特有 {bound} 落在干净的一半；简化损失则有 {simple}。",
    ),
}
