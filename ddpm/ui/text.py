"""Every visible string of the page, in English and in Chinese.

The browser holds the whole table and fills elements by key (`data-text`, `data-label`), so switching the language is
one pass over the page without a request. Between dollar signs stands TeX, `{name}` is filled in by the page.
"""

from __future__ import annotations

LANGUAGES = ("en", "zh")

_TABLE: dict[str, tuple[str, str]] = {
    # header
    "page.title": ("DDPM: from the bound to the noise", "DDPM：从变分下界到噪声预测"),
    "page.language": ("Language", "语言"),
    "page.theme": ("Light or dark", "浅色或深色"),
    "page.model": ("Model on this page", "本页使用的模型"),
    "page.embedded": ("embedded", "内置"),
    "page.local": ("local directory", "本地目录"),
    "page.parameters": ("{count} parameters", "{count} 个参数"),
    "notice.embedded": (
        "{name} cannot be had at the moment; this page shows the embedded model instead.",
        "目前无法获取 {name}；本页改用内置模型。",
    ),
    "notice.cached": (
        "The Hub cannot be reached at the moment; this page shows the copy of {name} that was pulled before.",
        "目前无法连接 Hub；本页使用此前拉取的 {name} 副本。",
    ),
    "tab.forward": ("Forward", "前向加噪"),
    "tab.noise": ("Predict the noise", "预测噪声"),
    "tab.bound": ("The bound", "变分下界"),
    "tab.reverse": ("Reverse", "反向采样"),
    # shared pieces
    "part.try": ("Try", "试一试"),
    "part.code": ("In our code", "对应代码"),
    "part.why": ("Why?", "为什么？"),
    "part.legend": ("Colours of noise: blue is -3, neutral 0, orange 3", "噪声的颜色：蓝色为 -3，中性色为 0，橙色为 3"),
    "t.slider": (
        "timestep t, from the clean picture (left) to pure noise (right)",
        "时间步 t，从清晰图像（左）到纯噪声（右）",
    ),
    "t.value": ("t = {t}, alpha-bar {alpha_bar}, SNR {snr} dB", "t = {t}，alpha-bar {alpha_bar}，信噪比 {snr} dB"),
    "t.finished": ("t = 0, the finished picture", "t = 0，采样完成的图像"),
    "t.clean": ("clean", "清晰"),
    "t.noise": ("noise", "噪声"),
    "t.snr": ("SNR", "信噪比"),
    "unit.db": ("dB", "dB"),
    "unit.bits": ("bits/dim", "比特/维"),
    # forward
    "forward.question": ("How does a picture become noise?", "图像怎样变成噪声？"),
    "forward.body": (
        "The forward process blends a picture $x_0$ with Gaussian noise $\\epsilon$, a little more at every step $t$. "
        "Nothing is learnt here: one formula jumps to any $t$, and your browser evaluates it as you move.",
        "前向过程把图像 $x_0$ 与高斯噪声 $\\epsilon$ 混合，步数 $t$ 越大，噪声越多。"
        "这里没有任何学习：一个公式就能直接到达任意 $t$，浏览器随着你的拖动即时计算。",
    ),
    "forward.try": (
        "Draw a digit, then move $t$ to the right until you can no longer read it. How much signal "
        "$\\bar\\alpha_t$ is left there? Less than you think.",
        "画一个数字，把 $t$ 向右拖，直到认不出来为止。那时还剩多少信号 $\\bar\\alpha_t$？比你以为的要少。",
    ),
    "forward.why": (
        "Why square roots? The two weights squared add up to 1, so data of unit variance keep unit variance at every "
        "$t$.||Why can we jump? A sum of Gaussian steps is again one Gaussian: the noise of all steps up to $t$ folds "
        "into a single $\\epsilon$, and their shrinking factors into $\\bar\\alpha_t=\\prod_{s\\le t}(1-\\beta_s)$."
        "||Why so many steps? At $t=T$ hardly anything of $x_0$ may be left, since sampling starts from "
        "$\\mathcal N(0,I)$. The histogram shows how closely the pixels of $x_t$ follow that curve.",
        "为什么用平方根？两个权重的平方和为 1，因此方差为 1 的数据在任意 $t$ 上方差都保持为 1。"
        "||为什么可以一步到位？高斯变量之和仍是高斯变量：前 $t$ 步的噪声合并成一个 $\\epsilon$，"
        "各步的缩放合并成 $\\bar\\alpha_t=\\prod_{s\\le t}(1-\\beta_s)$。"
        "||为什么要这么多步？到 $t=T$ 时 $x_0$ 应当几乎不剩，因为采样从 $\\mathcal N(0,I)$ 开始。"
        "直方图显示 $x_t$ 的像素分布与这条曲线有多接近。",
    ),
    "forward.x0": ("draw here", "在这里画"),
    "forward.x0.label": (
        "Clean picture x_0: draw with the pointer, or choose an example below",
        "清晰图像 x_0：用指针绘制，或在下方选择示例",
    ),
    "forward.eps": ("noise", "噪声"),
    "forward.eps.label": ("Gaussian noise epsilon", "高斯噪声 epsilon"),
    "forward.xt": ("noisy picture", "加噪图像"),
    "forward.xt.label": ("Noisy picture x_t at t = {t}, SNR {snr} dB", "加噪图像 x_t，t = {t}，信噪比 {snr} dB"),
    "forward.examples": ("Examples", "示例"),
    "forward.example": ("example {i}", "示例 {i}"),
    "forward.clear": ("Clear", "清空"),
    "forward.upload": ("Upload", "上传"),
    "forward.upload.label": (
        "Upload a picture; it stays in your browser",
        "上传图片；图片只留在你的浏览器里",
    ),
    "forward.upload.failed": (
        "{name} is not a picture that this browser can read",
        "浏览器无法读取图片 {name}",
    ),
    "forward.noise": ("New noise", "换一份噪声"),
    "forward.waiting": ("The model is drawing its own examples …", "模型正在生成示例……"),
    "chart.beta": ("noise per step", "每步加入的噪声"),
    "chart.alpha_bar": ("signal left", "剩余信号"),
    "chart.snr": ("signal to noise", "信噪比"),
    "chart.histogram": ("pixels of $x_t$ over $\\mathcal N(0,1)$", "$x_t$ 的像素与 $\\mathcal N(0,1)$"),
    "chart.label": ("{name} against t; click to move t", "{name} 随 t 的变化；点击可移动 t"),
    "chart.histogram.label": (
        "Histogram of the pixels of x_t over the standard normal density",
        "x_t 像素直方图与标准正态密度",
    ),
    # predict the noise
    "noise.question": ("What does the network see?", "网络看到了什么？"),
    "noise.body": (
        "The network gets the noisy picture $x_t$ and the number $t$, nothing else, and has to say which noise "
        "$\\epsilon$ is in it. That one question, asked at every $t$, is all of the training.",
        "网络只得到加噪图像 $x_t$ 和数字 $t$，要说出其中加入了怎样的噪声 $\\epsilon$。"
        "对所有 $t$ 反复问这一个问题，就是训练的全部。",
    ),
    "noise.try": (
        "Draw something unlike all that the model has learnt, then choose an example, with $t$ about a third of the "
        "way: where does the difference $\\hat\\epsilon-\\epsilon$ light up?",
        "画一个与模型学过的都不同的图案，再选一个示例，把 $t$ 放在三分之一处比较："
        "差异 $\\hat\\epsilon-\\epsilon$ 在哪里显现出来？",
    ),
    "noise.why": (
        "Why is the error large at small $t$? There is hardly any noise in $x_t$ then, and what little there is cannot "
        "be told from texture. At large $t$ almost all of $x_t$ is noise, so naming it is easy.||Why four readings? "
        "$x_t$ and $\\epsilon$ together determine $x_0$ (Eq. 4), hence also the mean of the reverse step and $v$. It "
        "is one output; only the size of its error at each $t$ differs, and with it what a plain squared loss pays "
        "attention to.||Why is $\\hat x_0$ useless at large $t$? An error in $\\hat\\epsilon$ is multiplied by "
        "$\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$, which is above 100 at the noisy end. Samplers therefore clip "
        "$\\hat x_0$ to the range of pixels; the figures here are not clipped.",
        "为什么 $t$ 小时误差大？那时 $x_t$ 里几乎没有噪声，仅有的一点与纹理难以区分。"
        "$t$ 大时 $x_t$ 几乎全是噪声，说出它就很容易。||为什么有四种读法？"
        "$x_t$ 和 $\\epsilon$ 一起决定了 $x_0$（式 4），"
        "因此也决定了反向一步的均值和 $v$。网络输出只有一个，不同的只是各个 $t$ 上误差的大小，"
        "也就是普通平方损失所关注的地方。||为什么 $t$ 大时 $\\hat x_0$ 没有用？$\\hat\\epsilon$ 的误差被乘以 "
        "$\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$，在噪声端超过 100。因此采样器会把 $\\hat x_0$ "
        "截断到像素范围；这里的数值没有截断。",
    ),
    "noise.xt": ("what it gets", "网络的输入"),
    "noise.xt.label": ("Noisy picture x_t at t = {t}, SNR {snr} dB", "加噪图像 x_t，t = {t}，信噪比 {snr} dB"),
    "noise.x0_hat": ("so x₀ would be", "由此推出的 x₀"),
    "noise.x0_hat.label": ("Guess x_0 hat at t = {t}", "t = {t} 时的猜测 x_0 hat"),
    "noise.target": ("the truth", "真值"),
    "noise.target.label": ("The truth: {what}, at t = {t}", "真值：{what}，t = {t}"),
    "noise.prediction": ("the network", "网络"),
    "noise.prediction.label": ("What the network says: {what}, at t = {t}", "网络的回答：{what}，t = {t}"),
    "noise.difference": ("difference", "差异"),
    "noise.difference.label": (
        "Difference of the network from the truth, {what}, at t = {t}: mean squared error {mse}",
        "网络与真值之差，{what}，t = {t}：均方误差 {mse}",
    ),
    "noise.reading": ("One output, read as", "同一个输出，读作"),
    "noise.reading.eps": ("the noise epsilon", "噪声 epsilon"),
    "noise.reading.x0": ("the clean picture x_0", "清晰图像 x_0"),
    "noise.reading.mu": ("the mean mu of the reverse step", "反向一步的均值 mu"),
    "noise.reading.v": ("the velocity v", "速度 v"),
    "noise.asking": ("Asking the network at {n} timesteps …", "正在询问网络，共 {n} 个时间步……"),
    "noise.part": ("{done} of {total} timesteps …", "{done} / {total} 个时间步……"),
    "noise.done": (
        "The network was asked at {n} timesteps at once; moving t asks it nothing more.",
        "网络已一次性回答了 {n} 个时间步；拖动 t 不再需要询问。",
    ),
    "answer.failed": (
        "The server could not answer. Choose the picture again.",
        "服务器未能回答，请重新选择图像。",
    ),
    "chart.mse": ("mean squared error", "均方误差"),
    # the bound
    "bound.question": ("What is the network trained to lower?", "训练要降低的是什么？"),
    "bound.body": (
        "Coding this picture with the model takes at most $L$ bits per dimension. The bound is a sum of $T+1$ terms: "
        "each $L_{t-1}$ is a squared error of the noise, times a weight $w_t$ that the schedule sets.",
        "用这个模型编码这幅图像，每维最多需要 $L$ 比特。这个界是 $T+1$ 项之和："
        "每个 $L_{t-1}$ 都是噪声的平方误差乘以由噪声调度决定的权重 $w_t$。",
    ),
    "bound.try": (
        "Switch to the simple loss. Where did the weight go? Then draw something unlike all that the model has learnt: "
        "which terms rise?",
        "切换到简化损失：权重跑到哪里去了？再画一个与模型学过的都不同的图案：哪些项变大？",
    ),
    "bound.why": (
        "Why drop the weights? The bound spends itself on the first few steps, on details that nobody sees. "
        "$L_\\mathrm{simple}$ sets every $w_t$ to the same, so that training works on the noisy steps, where the shape "
        "of the picture is decided. Codes get longer, samples better (section 3.4 of the paper).||Why is $L_0$ a term "
        "of its own? At the last step pixels have 256 values, not a density: $L_0$ is the likelihood of exactly these "
        "values. $L_T$ has nothing to learn: it says how far $x_T$ is from pure noise.||Why is the curve not smooth? "
        "Each term is an expectation over $\\epsilon$, and this is one draw of each. The bound clips $\\hat x_0$ as "
        "sampling does, so at the noisy end $L_{t-1}$ lies below $w_t$ times the error.",
        "为什么去掉权重？这个界的大部分落在最初几步，花在没人看得见的细节上。$L_\\mathrm{simple}$ 让所有 $w_t$ 相同，"
        "训练便着力于噪声较大的步骤，图像的形状正是在那里决定的。编码变长，样本变好（论文 3.4 节）。"
        "||为什么 $L_0$ 单独一项？最后一步的像素是 256 个取值，而不是密度：$L_0$ 是恰好得到这些值的似然。"
        "$L_T$ 没有可学的东西：它表示 $x_T$ 离纯噪声有多远。||为什么曲线不光滑？每一项都是对 $\\epsilon$ 的期望，"
        "这里每项只抽取了一次。计算时像采样一样截断 $\\hat x_0$，所以在噪声端 $L_{t-1}$ 小于 $w_t$ 乘以误差。",
    ),
    "bound.prior": ("noise", "噪声端"),
    "bound.kl": ("steps", "各步"),
    "bound.reconstruction": ("pixels", "像素"),
    "bound.total": ("bits/dim", "比特/维"),
    "bound.loss": ("Which loss", "哪种损失"),
    "bound.loss.true": ("True bound", "真正的界"),
    "bound.loss.simple": ("Simple loss", "简化损失"),
    "bound.caption.true": (
        "bits per dimension of each term (dashed: $w_t$ dropped)",
        "各项的比特/维（虚线：去掉 $w_t$）",
    ),
    "bound.caption.simple": (
        "every weight the same, scaled to the same sum (dashed: the bound)",
        "所有权重相同，缩放到同样的总和（虚线：真正的界）",
    ),
    "bound.starting": ("Starting …", "开始……"),
    "bound.waiting": ("Waiting for the model …", "等待模型……"),
    "bound.running": ("Term {done} of {total}", "第 {done} / {total} 项"),
    "bound.done": ("{n} terms and $L_T$ make {total} bits per dimension.", "{n} 项加上 $L_T$，共 {total} 比特/维。"),
    "bound.stopped": ("Stopped after {done} of {total} terms.", "已停止，完成 {done} / {total} 项。"),
    "bound.stop": ("Stop", "停止"),
    "bound.again": ("Compute", "计算"),
    "bound.half": (
        "Half of the steps’ bits lie at $t\\le{bound}$. With the weights dropped, half of the loss lies at "
        "$t\\le{simple}$.",
        "各步的比特有一半落在 $t\\le{bound}$。去掉权重后，损失的一半落在 $t\\le{simple}$。",
    ),
    "chart.terms": ("terms of the bound", "界的各项"),
    "chart.weights": ("weight", "权重"),
    "chart.errors": ("squared error of the noise", "噪声的平方误差"),
    "chart.share": ("share of the sum up to t", "到 t 为止占总和的比例"),
    # reverse
    "reverse.question": ("How does noise become a picture?", "噪声怎样变回图像？"),
    "reverse.body": (
        "Start from pure noise $x_T$. At every step the network names the noise $\\hat\\epsilon$ it sees, and so "
        "implies a guess $\\hat x_0$ of the finished picture; one small step in that direction gives $x_{t-1}$.",
        "从纯噪声 $x_T$ 出发。每一步网络说出它看到的噪声 $\\hat\\epsilon$，由此得到对最终图像的猜测 $\\hat x_0$；"
        "朝这个方向走一小步，就得到 $x_{t-1}$。",
    ),
    "reverse.try": (
        "Move $t$ from right to left. At which $t$ has $\\hat x_0$ made up its mind, while $x_t$ "
        "still looks like noise?",
        "把 $t$ 从右向左拖。到哪个 $t$ 时 $\\hat x_0$ 已经打定主意，而 $x_t$ 看上去还是噪声？",
    ),
    "reverse.why": (
        "Why is $\\hat x_0$ dashed? It is a guess, the average of all pictures that could hide behind this $x_t$: "
        "blurred at the noisy end, sharp at the clean end.||Why add noise $\\sigma_t z$ again? Each step draws from a "
        "distribution, $p_\\theta(x_{t-1}\\mid x_t)$. The paper tries two variances: the small "
        "$\\tilde\\beta_t$ and the large $\\beta_t$. DDIM with $\\eta=0$ adds none: the picture is a function of "
        "$x_T$ alone.||Why fewer steps than $T$? All samplers use the same network and may skip timesteps. "
        "DPM-Solver++ and DDIM lose little by it, DDPM more: compare them at 10 steps.",
        "为什么 $\\hat x_0$ 用虚线框？因为它只是猜测，是所有可能藏在这个 $x_t$ 背后的图像的平均："
        "在噪声端模糊，在清晰端锐利。||为什么又加回噪声 $\\sigma_t z$？每一步都是从分布 "
        "$p_\\theta(x_{t-1}\\mid x_t)$ 中采样。论文试了两种方差：较小的 $\\tilde\\beta_t$ 和较大的 $\\beta_t$。"
        "$\\eta=0$ 的 DDIM 不加噪声：图像完全由 $x_T$ 决定。||为什么步数可以少于 $T$？"
        "所有采样器用的是同一个网络，可以跳过一些时间步。"
        "DPM-Solver++ 和 DDIM 因此损失很小，DDPM 较多：用 10 步比较一下。",
    ),
    "reverse.sampler": ("Sampler", "采样器"),
    "sampler.ddpm": ("DDPM, the model’s own σ", "DDPM，模型自带的 σ"),
    "sampler.ddpm_fixed_small": ("DDPM, small σ (β̃)", "DDPM，小 σ（β̃）"),
    "sampler.ddpm_fixed_large": ("DDPM, large σ (β)", "DDPM，大 σ（β）"),
    "sampler.ddim": ("DDIM", "DDIM"),
    "sampler.dpm_solver++": ("DPM-Solver++", "DPM-Solver++"),
    "reverse.steps": ("Steps", "步数"),
    "reverse.images": ("Pictures", "张数"),
    "reverse.seed": ("Seed", "随机种子"),
    "reverse.new_seed": ("New seed", "换一个种子"),
    "reverse.eta": ("η, fresh noise", "η，新噪声"),
    "reverse.sample": ("Sample", "采样"),
    "reverse.stop": ("Stop", "停止"),
    "reverse.play": ("Play", "播放"),
    "reverse.pause": ("Pause", "暂停"),
    "reverse.speed": ("Playing speed", "播放速度"),
    "reverse.xt": ("the current picture", "当前图像"),
    "reverse.xt.label": ("Noisy pictures x_t", "加噪图像 x_t"),
    "reverse.x0_hat": ("the network’s guess", "网络的猜测"),
    "reverse.x0_hat.label": ("Guesses x_0 hat of the finished pictures", "对最终图像的猜测 x_0 hat"),
    "reverse.eps_hat": ("the noise it sees", "它看到的噪声"),
    "reverse.eps_hat.label": ("Predicted noise epsilon hat", "预测的噪声 epsilon hat"),
    "reverse.strip": ("Picture {i} along the way", "第 {i} 张图像的全过程"),
    "reverse.pick": ("follow picture {i}", "跟踪第 {i} 张图像"),
    "reverse.jump": ("go to t = {t}", "跳到 t = {t}"),
    "reverse.drawing": ("Drawing a first example …", "正在生成第一个示例……"),
    "reverse.example": ("Stored example: {summary}", "预先算好的示例：{summary}"),
    "reverse.waiting": ("Waiting for the model, someone else is sampling …", "等待模型，其他人正在采样……"),
    "reverse.starting": ("Starting …", "开始……"),
    "reverse.running": ("Step {step} of {steps}", "第 {step} / {steps} 步"),
    "reverse.done": ("{summary}. Move t to go through it again.", "{summary}。拖动 t 可以回看全过程。"),
    "reverse.stopped": (
        "Stopped at step {step} of {steps}; what was drawn can be moved through.",
        "停在第 {step} / {steps} 步；已生成的部分可以回看。",
    ),
    "reverse.summary": (
        "{sampler}, {steps} steps, seed {seed}, {seconds} s",
        "{sampler}，{steps} 步，种子 {seed}，{seconds} 秒",
    ),
    "reverse.failed": ("The server could not finish this run. Try again.", "服务器未能完成这次采样，请重试。"),
    # refusals: what was given, what is accepted
    "refused.whole": (
        "{name} = {value}: a whole number from {low} to {high} is needed",
        "{name} = {value}：需要 {low} 到 {high} 的整数",
    ),
    "refused.real": (
        "{name} = {value}: a number from {low} to {high} is needed",
        "{name} = {value}：需要 {low} 到 {high} 的数",
    ),
    "refused.nothing": ("nothing", "空"),
    "refused.choice": ("{name} = {value}: one of {choices} is needed", "{name} = {value}：只能是 {choices}"),
    "refused.pixels": (
        "{name}: a picture of {needed} bytes in base64 is needed",
        "{name}：需要 {needed} 字节的图像（base64）",
    ),
    "refused.shape": (
        "{name}: nested lists of {shape} numbers from {low} to {high} are needed",
        "{name}：需要 {shape} 的嵌套列表，数值从 {low} 到 {high}",
    ),
    "refused.no_example": (
        "{name}: the model is still drawing its first picture; give one, or try again soon",
        "{name}：模型还在生成第一张图像；请给出图像，或稍后再试",
    ),
    "refused.slow": (
        "The model was too slow for this: ended after {limit} s.",
        "模型太慢，已在 {limit} 秒后终止。",
    ),
    "refused.deadline": (
        "The run was ended after {limit} s. Take fewer steps or pictures.",
        "采样在 {limit} 秒后被终止。请减少步数或张数。",
    ),
    "field.num_inference_steps": ("Steps", "步数"),
    "field.num_images": ("Pictures", "张数"),
    "field.seed": ("Seed", "随机种子"),
    "field.eta": ("η", "η"),
    "field.x0": ("x_0", "x_0"),
    "field.noise_seed": ("Noise", "噪声"),
    "field.sampler": ("Sampler", "采样器"),
}

TEXT: dict[str, dict[str, str]] = {
    language: {key: pair[i] for key, pair in _TABLE.items()} for i, language in enumerate(LANGUAGES)
}
"""language -> key -> string."""

EQUATIONS: dict[str, str] = {
    # \htmlData{of=...} names the picture that a symbol stands for; the page outlines it on hover.
    "x0": r"x_0",
    "xt": r"x_t",
    "eps": r"\epsilon",
    "x0_hat": r"\hat x_0",
    "eps_hat": r"\hat\epsilon",
    "t": r"t",
    "beta": r"\beta_t",
    "alpha_bar": r"\bar\alpha_t",
    "snr": r"\mathrm{SNR}_t",
    "times": r"\times",
    "plus": r"+",
    "equals": r"=",
    "forward": r"\htmlData{of=xt}{x_t}=\htmlData{of=alpha_bar}{\sqrt{\bar\alpha_t}}\,\htmlData{of=x0}{x_0}"
    r"+\htmlData{of=alpha_bar}{\sqrt{1-\bar\alpha_t}}\,\htmlData{of=eps}{\epsilon}",
    "reverse": r"x_{t-1}=\frac{1}{\sqrt{\alpha_t}}\Big(\htmlData{of=xt}{x_t}-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,"
    r"\htmlData{of=eps_hat}{\hat\epsilon}\Big)+\sigma_t z",
    "prior": r"L_T",
    "kl": r"\sum_{t>1} L_{t-1}",
    "reconstruction": r"L_0",
    "total": r"L",
    "weight": r"w_t",
    "bound": r"\begin{aligned}\htmlData{of=total}{L}&=\htmlData{of=prior}{L_T}"
    r"+\htmlData{of=kl}{\textstyle\sum_{t>1}L_{t-1}}+\htmlData{of=reconstruction}{L_0}\\[5pt]"
    r"L_{t-1}&=\underbrace{\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}}_{w_t}"
    r"\,\big\Vert\epsilon-\hat\epsilon\big\Vert^2\end{aligned}",
    "simple": r"L_\mathrm{simple}=\big\Vert\htmlData{of=eps}{\epsilon}"
    r"-\htmlData{of=eps_hat}{\epsilon_\theta}(\htmlData{of=xt}{x_t},t)\big\Vert^2",
    "eps_difference": r"\hat\epsilon-\epsilon",
    "x0_difference": r"\hat x_0-x_0",
    "mu": r"\tilde\mu_t",
    "mu_hat": r"\mu_\theta",
    "mu_difference": r"\mu_\theta-\tilde\mu_t",
    "v": r"v",
    "v_hat": r"\hat v",
    "v_difference": r"\hat v-v",
    "read_eps": r"\htmlData{of=eps_hat}{\hat\epsilon}=\epsilon_\theta(\htmlData{of=xt}{x_t},t)",
    "read_x0": r"\htmlData{of=x0_hat}{\hat x_0}=\frac{\htmlData{of=xt}{x_t}-\sqrt{1-\bar\alpha_t}\,\hat\epsilon}"
    r"{\sqrt{\bar\alpha_t}}",
    "read_mu": r"\htmlData{of=mu_hat}{\mu_\theta}=\frac{1}{\sqrt{\alpha_t}}\Big(\htmlData{of=xt}{x_t}"
    r"-\tfrac{\beta_t}{\sqrt{1-\bar\alpha_t}}\hat\epsilon\Big)",
    "read_v": r"\htmlData{of=v_hat}{\hat v}=\sqrt{\bar\alpha_t}\,\hat\epsilon-\sqrt{1-\bar\alpha_t}\,"
    r"\htmlData{of=x0_hat}{\hat x_0}",
    "guess": r"\htmlData{of=x0_hat}{\hat x_0}=\frac{\htmlData{of=xt}{x_t}-\sqrt{1-\bar\alpha_t}\,"
    r"\htmlData{of=eps_hat}{\hat\epsilon}}{\sqrt{\bar\alpha_t}}",
}
"""name -> TeX; the same in every language."""


def say(key: str, language: str = "en", **fields: object) -> str:
    """The string of `key` with its fields filled in."""
    return TEXT[language][key].format(**fields)
