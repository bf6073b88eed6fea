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
    "tab.bound": ("The bound", "变分界"),
    "tab.reverse": ("Reverse", "反向采样"),
    "tab.compare": ("Compare", "对比"),
    "tab.mine": ("From my picture", "从我的图像出发"),
    "tab.wrong": ("What goes wrong", "哪里会出错"),
    "tab.training": ("Training", "训练"),
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
        "Draw something, then move $t$ to the right until you can no longer make it out. How much signal "
        "$\\bar\\alpha_t$ is left there? Less than you think.",
        "画点什么，把 $t$ 向右拖，直到认不出来为止。那时还剩多少信号 $\\bar\\alpha_t$？比你以为的要少。",
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
    "forward.upload.inverted": (
        "{name} was inverted: this model’s pictures are bright on dark",
        "{name} 已反色：这个模型的图像是暗底亮字",
    ),
    "forward.upload.failed": (
        "{name} is not a picture that this browser can read",
        "浏览器无法读取图片 {name}",
    ),
    "forward.noise": ("New noise", "换一份噪声"),
    "forward.waiting": ("The model is drawing its own examples …", "模型正在生成示例……"),
    "forward.schedule": ("Schedule to compare with", "用来比较的噪声调度"),
    "forward.other.label": (
        "The same picture with the same noise under another schedule, {name}, at t = {t}, SNR {snr} dB",
        "同一图像、同一噪声，换用另一种噪声调度（{name}），t = {t}，信噪比 {snr} dB",
    ),
    "forward.own": (
        "This model, {name}: signal and noise are equal (0 dB) at {even}; {late} of {T} steps are almost without "
        "signal (below −20 dB).",
        "本模型，{name}：在 {even} 处信号与噪声相等（0 dB）；{T} 步中有 {late} 步几乎没有信号（低于 −20 dB）。",
    ),
    "forward.longer": (
        "For comparison, {name} keeps the signal for longer: equal at {even}, {late} of {T} steps below −20 dB.",
        "作为比较，{name}保留信号更久，在 {even} 处信号与噪声相等；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "forward.shorter": (
        "For comparison, {name} loses the signal sooner: equal at {even}, {late} of {T} steps below −20 dB.",
        "作为比较，{name}更早失去信号，在 {even} 处信号与噪声相等；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "forward.alike": (
        "For comparison, {name}: equal at {even}, too; {late} of {T} steps below −20 dB.",
        "作为比较，{name}同样在 {even} 处信号与噪声相等；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "schedule.own": ("a schedule of its own", "自定义调度"),
    "schedule.linear": ("linear", "线性"),
    "schedule.linear.see": (
        "Linear: $\\beta_t$ grows by the same amount at every step, as in the paper.",
        "线性：$\\beta_t$ 每步增加相同的量，与论文相同。",
    ),
    "schedule.squaredcos_cap_v2": ("cosine", "余弦"),
    "schedule.squaredcos_cap_v2.see": (
        "Cosine: $\\bar\\alpha_t$ falls along a squared cosine, almost straight in the middle and gently at both ends, "
        "so that few steps are spent where nothing is left of the picture.",
        "余弦：$\\bar\\alpha_t$ 沿余弦平方曲线下降，中段近似匀速，两端平缓，很少有步数花在图像已荡然无存的地方。",
    ),
    "schedule.scaled_linear": ("scaled linear", "缩放线性"),
    "schedule.scaled_linear.see": (
        "Scaled linear: $\\sqrt{\\beta_t}$ is linear instead of $\\beta_t$, with the same ends, so every step between "
        "adds less noise. Latent diffusion uses this form.",
        "缩放线性：呈线性的是 $\\sqrt{\\beta_t}$ 而不是 $\\beta_t$，两端相同，中间每步的噪声更少。"
        "潜空间扩散采用这种形式。",
    ),
    "schedule.sigmoid": ("sigmoid", "S 形"),
    "schedule.sigmoid.see": (
        "Sigmoid: $\\beta_t$ rises in an S between nearly the same ends, so the noise sets in late and then quickly.",
        "S 形：$\\beta_t$ 在几乎相同的两端之间呈 S 形上升，噪声来得晚，随后增长很快。",
    ),
    "schedule.laplace": ("Laplace", "拉普拉斯"),
    "schedule.laplace.see": (
        "Laplace: $\\beta_t$ is smallest in the middle, so most steps are spent where signal and noise are about "
        "even. As diffusers computes it, 3 % of the signal, $\\bar\\alpha_T$, are left at the end.",
        "拉普拉斯：$\\beta_t$ 在中间最小，大部分步数花在信号与噪声大致相当的地方。"
        "按 diffusers 的算法，最后还剩 3 % 的信号（$\\bar\\alpha_T$）。",
    ),
    "schedule.zero_snr": ("zero SNR", "零信噪比"),
    "schedule.zero_snr.see": (
        "Zero terminal SNR: linear, rescaled so that $\\bar\\alpha_T$ is exactly 0: $x_T$ is then the pure noise that "
        "sampling starts "
        "from.",
        "终点零信噪比：线性调度经缩放，使 $\\bar\\alpha_T$ 恰好为 0：此时 $x_T$ 正是采样所用的纯噪声。",
    ),
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
    "noise.x0_hat": ("so $x_0$ would be", "由此推出的 $x_0$"),
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
    "answer.busy": (
        "Many visitors are here, and the model takes one at a time. Asking again in a moment …",
        "访问者较多，模型一次只能服务一位。稍后会自动再问……",
    ),
    "answer.lost": (
        "The connection to the server is lost. The page loads again by itself once the server is back.",
        "与服务器的连接已断开。服务器恢复后，页面会自动重新加载。",
    ),
    "chart.mse": ("mean squared error", "均方误差"),
    # the bound
    "bound.question": ("What is the network trained to lower?", "训练要降低的是什么？"),
    "bound.body": (
        "Coding this picture with the model takes at most $L$ bits per dimension. The bound is a sum of $T+1$ terms: "
        "each $L_{t-1}$ is the mean squared error of the noise, times a weight $w_t$ that the schedule sets; "
        "divided by $\\ln 2$, nats become bits.",
        "用这个模型编码这幅图像，每维最多需要 $L$ 比特。这个界是 $T+1$ 项之和："
        "每个 $L_{t-1}$ 都是噪声的均方误差乘以由噪声调度决定的权重 $w_t$；除以 $\\ln 2$，奈特就换算成比特。",
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
    "chart.weights": ("weight, nats", "权重（奈特）"),
    "chart.errors": ("squared error of the noise", "噪声的平方误差"),
    "chart.share": ("share of the sum up to t", "到 t 为止占总和的比例"),
    # reverse
    "reverse.question": ("How does noise become a picture?", "噪声怎样变回图像？"),
    "reverse.body": (
        "Start from pure noise $x_T$. At every step the network names the noise $\\hat\\epsilon$ it sees, and so "
        "implies a guess $\\hat x_0$ of the finished picture; one small step in that direction gives $x_{t-1}$. "
        "The formula is DDPM’s; the other samplers go other ways from the same $\\hat\\epsilon$.",
        "从纯噪声 $x_T$ 出发。每一步网络说出它看到的噪声 $\\hat\\epsilon$，由此得到对最终图像的猜测 $\\hat x_0$；"
        "朝这个方向走一小步，就得到 $x_{t-1}$。公式是 DDPM 的；其他采样器从同一个 $\\hat\\epsilon$ 走不同的路。",
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
        "DPM-Solver++ is already good at 10 of them, DDIM keeps to the same picture, only coarser, and DDPM draws "
        "others: compare them at 10 steps.",
        "为什么 $\\hat x_0$ 用虚线框？因为它只是猜测，是所有可能藏在这个 $x_t$ 背后的图像的平均："
        "在噪声端模糊，在清晰端锐利。||为什么又加回噪声 $\\sigma_t z$？每一步都是从分布 "
        "$p_\\theta(x_{t-1}\\mid x_t)$ 中采样。论文试了两种方差：较小的 $\\tilde\\beta_t$ 和较大的 $\\beta_t$。"
        "$\\eta=0$ 的 DDIM 不加噪声：图像完全由 $x_T$ 决定。||为什么步数可以少于 $T$？"
        "所有采样器用的是同一个网络，可以跳过一些时间步。"
        "DPM-Solver++ 用 10 步就已经很好，DDIM 画出的仍是同一幅图像，只是更粗略，DDPM 则会画出别的图像："
        "用 10 步比较一下。",
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
    "reverse.play": ("Play towards the picture", "向图像方向播放"),
    "reverse.play_back": ("Play towards the noise", "向噪声方向播放"),
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
    "reverse.save_gif": ("Save $x_t$ and $\\hat x_0$ as GIF", "将 $x_t$ 与 $\\hat x_0$ 存为 GIF"),
    "reverse.save_gif.stop": ("GIF: {done} of {total}, stop", "GIF：{done} / {total}，停止"),
    "reverse.save_png": ("Save this $x_t$ as PNG", "将当前 $x_t$ 存为 PNG"),
    "reverse.failed": ("The server could not finish this run. Try again.", "服务器未能完成这次采样，请重试。"),
    # compare
    "compare.question": ("Which steps can be skipped?", "哪些步骤可以省略？"),
    "compare.body": (
        "Every row starts from the same noise $x_T$ and asks the same network; only the sampler and its number of "
        "steps differ. Ancestral sampling (DDPM) adds fresh noise at each step, DDIM with $\\eta=0$ and DPM-Solver++ "
        "add none.",
        "每一行都从同一份噪声 $x_T$ 出发，使用同一个网络，只有采样器和步数不同。"
        "祖先采样（DDPM）每步都加入新噪声，$\\eta=0$ 的 DDIM 和 DPM-Solver++ 不加。",
    ),
    "compare.try": (
        "Give all rows the same sampler and 100, 20, 5 and 2 steps. Which sampler still draws the same pictures, and "
        "which draws others?",
        "让各行使用同一个采样器，步数取 100、20、5、2。哪个采样器仍画出同样的图像，哪个画出别的图像？",
    ),
    "compare.why": (
        "Why does DDIM keep the picture? Without fresh noise the whole path follows from $x_T$ (it solves an ordinary "
        "differential equation), and fewer steps only follow it more coarsely. With fresh noise $x_T$ decides little: "
        "what is drawn on the way does.||Why is DPM-Solver++ good at 10 steps? It uses the guess of the step before, "
        "too, and so follows the curve of the path where DDIM goes straight (a method of second order).||What is "
        "counted? A network call is one evaluation for all pictures of a row, and nearly all of the time. Seconds are "
        "those of the row’s own steps on the server: waiting for other visitors is left out, sending the frames too. "
        "The difference is the root mean square between finished pictures, with pixels from -1 to 1.",
        "为什么 DDIM 能保持图像？不加新噪声时，整条路径由 $x_T$ 决定（它是常微分方程的解），步数少只是走得更粗略。"
        "加入新噪声时，$x_T$ 决定的很少，途中抽取的噪声才起作用。"
        "||为什么 DPM-Solver++ 用 10 步就很好？它还利用上一步的猜测，因此能沿着路径转弯，而 DDIM 走直线（二阶方法）。"
        "||统计的是什么？一次网络调用是对一行全部图像的一次计算，几乎占去所有时间。"
        "秒数是这一行自己的步骤在服务器上所用的时间：不含等待其他访客，也不含传输。"
        "差异是两行最终图像之间的均方根，像素取值从 -1 到 1。",
    ),
    "compare.link": (
        "{name} = {value}: {low} to {high} rows are needed, each one of {choices}",
        "{name} = {value}：需要 {low} 到 {high} 行，每行为 {choices} 之一",
    ),
    "compare.steps": ("steps", "步"),
    "compare.add": ("Add a row", "添加一行"),
    "compare.remove": ("Remove this row", "删除这一行"),
    "compare.done": (
        "{n} rows from the same noise, seed {seed}. Move t through all of them at once.",
        "{n} 行，噪声相同，种子 {seed}。拖动 t 可同时回看各行。",
    ),
    "compare.example": (
        "Stored example of {n} rows. Move t through all of them at once.",
        "预先算好的示例，共 {n} 行。拖动 t 可同时回看各行。",
    ),
    "compare.changed": (
        "Rows to draw: {n}, new or changed. Press Sample.",
        "有 {n} 行是新的或已改动，请点击“采样”。",
    ),
    # rows of the same noise
    "rows.plane": ("What to show", "显示什么"),
    "rows.plane.xt": ("the current pictures x_t", "当前图像 x_t"),
    "rows.plane.x0_hat": ("the network’s guesses x_0 hat", "网络的猜测 x_0 hat"),
    "rows.plane.eps_hat": ("the predicted noise epsilon hat", "预测的噪声 epsilon hat"),
    "rows.name": ("{sampler}, {steps} steps", "{sampler}，{steps} 步"),
    "rows.row": ("Row {i}: {name}", "第 {i} 行：{name}"),
    "rows.label": ("Row {i}, {name}: {what} at t = {t}", "第 {i} 行，{name}：{what}，t = {t}"),
    "rows.calls": ("{calls} network calls", "{calls} 次网络调用"),
    "rows.seconds": ("{seconds} s", "{seconds} 秒"),
    "rows.away": ("finished pictures {away} from row 1’s (RMS)", "最终图像与第 1 行相差 {away}（均方根）"),
    "rows.reach": ("x̂₀ reaches ±{reach}", "x̂₀ 达到 ±{reach}"),
    "rows.running": ("Sampling, at t = {t}", "正在采样，t = {t}"),
    "rows.stopped": (
        "Stopped; what was drawn can be moved through.",
        "已停止；已生成的部分可以回看。",
    ),
    "rows.refused": ("Row {row}. ", "第 {row} 行。"),
    # what goes wrong
    "wrong.question": ("What if one line is wrong?", "写错一行会怎样？"),
    "wrong.body": (
        "Algorithm 2 is short, and each of its lines is easy to get wrong. Below, the same network draws from the same "
        "noise twice, once as it should be and once with a mistake.",
        "算法 2 很短，但每一行都容易写错。下面用同一个网络、同一份噪声各画两遍：一遍正确，一遍带有错误。",
    ),
    "wrong.try": (
        "Choose “T too short” and move its slider: from which $t$ on do the pictures suffer?",
        "选择“T 太短”并拖动它的滑块：从哪个 $t$ 起图像开始变坏？",
    ),
    "wrong.why": (
        "Why is fresh noise needed? $p(x_{t-1}|x_t)$ is a distribution. Its mean alone has too little variance for "
        "$t-1$: the network sees less noise than $t$ promises, takes it for a smoother picture, and every path ends at "
        "the simplest one.||Why clip? At $t=T$ an error in $\\hat\\epsilon$ reaches $\\hat x_0$ multiplied by "
        "$\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$. Pixels beyond the range cannot be right, so clipping only "
        "removes errors. A network that errs little forgives its absence; an early checkpoint or guidance does not."
        "||Why no noise at the last step? Nothing comes after it that could remove it. With the small variance "
        "$\\tilde\\beta_1=0$ hides this mistake.||Why must $T$ be long? Sampling begins with pure noise, but training "
        "at that $t$ always had some signal $\\sqrt{\\bar\\alpha_t}\\,x_0$ in it. The network reads one into noise "
        "that has none.",
        "为什么需要新噪声？$p(x_{t-1}|x_t)$ 是一个分布，只取均值的话，对 $t-1$ 来说方差太小：网络看到的噪声比 $t$ "
        "所预示的少，把它当成更平滑的图像，所有路径都走向最简单的图像。"
        "||为什么要截断？在 $t=T$ 处，$\\hat\\epsilon$ 的误差乘以 "
        "$\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$ 后进入 $\\hat x_0$。超出范围的像素不可能正确，截断只会去掉误差。"
        "误差小的网络不截断也能容忍；训练初期的检查点或引导采样则不能。"
        "||为什么最后一步不加噪声？之后再没有步骤能去掉它。小方差 $\\tilde\\beta_1=0$ 会掩盖这个错误。"
        "||为什么 $T$ 要足够长？采样从纯噪声开始，但训练时该 $t$ 处总含有一些信号 $\\sqrt{\\bar\\alpha_t}\\,x_0$。"
        "网络会从没有信号的噪声里读出信号来。",
    ),
    "wrong.fault": ("Which mistake", "哪种错误"),
    "wrong.no_noise": ("No fresh noise", "不加新噪声"),
    "wrong.fault.no_noise": ("No fresh noise at any step", "每一步都不加新噪声"),
    "wrong.no_noise.see": (
        "Whatever the noise, every path ends at nearly the same simple picture: the variety is gone.",
        "无论噪声如何，所有路径都走到几乎相同的简单图像：多样性消失了。",
    ),
    "wrong.no_clip": ("No clipping", "不截断"),
    "wrong.fault.no_clip": ("No clipping of x_0 hat", "不截断 x_0 hat"),
    "wrong.no_clip.see": (
        "At the noisy end the guesses $\\hat x_0$ reach far beyond the pixels’ $\\pm1$, as the figure under each row "
        "says (drawn, they are cut off at black and white). A network that errs little forgives it: at $t=0$ there "
        "is hardly a difference to see with the built-in one.",
        "在噪声端，猜测 $\\hat x_0$ 远远超出像素的 $\\pm1$，见每行下方的数字（显示时截止于纯黑和纯白）。"
        "误差小的网络能容忍：对内置网络，在 $t=0$ 处几乎看不出差别。",
    ),
    "wrong.last_noise": ("Wrong σ at the end", "最后一步的 σ 错误"),
    "wrong.fault.last_noise": (
        "Wrong variance at the end: noise in the finished picture",
        "最后一步的方差错误：最终图像里还有噪声",
    ),
    "wrong.last_noise.see": (
        "The finished pictures ($t=0$) are grainy, most visibly where they should be of one colour. All before is the "
        "same.",
        "最终图像（$t=0$）有颗粒，在本应是纯色的地方最明显。在此之前两行完全相同。",
    ),
    "wrong.few_steps": ("Too few steps", "步数太少"),
    "wrong.fault.few_steps": ("Too few steps", "步数太少"),
    "wrong.few_steps.see": (
        "Strokes are blurred, and several shapes lie over each other: a guess $\\hat x_0$ is the average of all "
        "pictures that $x_t$ may still become, and few steps leave no time to choose one.",
        "笔画模糊，几种形状叠在一起：猜测 $\\hat x_0$ 是 $x_t$ 仍可能变成的所有图像的平均，步数太少就来不及选定一种。",
    ),
    "wrong.few_steps.amount": ("Steps: {value}", "步数：{value}"),
    "wrong.short_T": ("T too short", "T 太短"),
    "wrong.fault.short_T": ("T too short: pure noise in the middle of the way", "T 太短：从半路的纯噪声开始"),
    "wrong.short_T.see": (
        "The row begins with pure noise at $t={t}$, where $x_t$ should still hold {signal} times the picture. The "
        "smaller that $t$, the fatter and the more shapeless the strokes.",
        "这一行在 $t={t}$ 处从纯噪声开始，而那里的 $x_t$ 本应仍以 {signal} 的系数含有图像。"
        "这个 $t$ 越小，笔画越粗、越不成形。",
    ),
    "wrong.short_T.amount": ("Begin at t = {value}", "从 t = {value} 开始"),
    "wrong.right": ("As it should be", "正确"),
    "wrong.wrong": ("With the mistake", "带有错误"),
    "wrong.again": ("Other noise", "换一份噪声"),
    "wrong.done": (
        "Both rows from the same noise, seed {seed}. Move t through both at once.",
        "两行噪声相同，种子 {seed}。拖动 t 可同时回看两行。",
    ),
    "wrong.example": ("Stored example. Move t through both rows at once.", "预先算好的示例。拖动 t 可同时回看两行。"),
    # from my picture
    "mine.question": ("What does noise leave of my picture?", "加噪之后，我的图像还剩下什么？"),
    "mine.body": (
        "Noise your picture up to $t_0$, then let the network take the noise away again. What still shows in "
        "$x_{t_0}$ stays; what is lost is made up anew, differently each time.",
        "把你的图像加噪到 $t_0$，再让网络把噪声去掉。在 $x_{t_0}$ 中仍看得见的会保留下来；"
        "已经丢失的则重新生成，每次都不一样。",
    ),
    "mine.try": (
        "Denoise at a small, a middle and a large $t_0$: from where on does your picture become another? Then go "
        "between two pictures: where does the one turn into the other?",
        "分别在较小、中等和较大的 $t_0$ 去噪：从哪里开始，你的图像会变成另一幅？"
        "再在两幅图像之间试一试：到哪里一个会变成另一个？",
    ),
    "mine.why": (
        "Why do the results differ? They all start from the same $x_{t_0}$, but every reverse process draws its own "
        "$\\sigma_t z$. DDIM with $\\eta=0$ and DPM-Solver++ draw none: with them all are the same.||Why not simply "
        "blend? Both pictures get the same $\\epsilon$, so $\\bar x_{t_0}$ is nothing but the blend, noised. The noise "
        "hides that it is a double exposure, and the network finds a picture of the kind it knows that could be "
        "under it (Figure 8 of the paper). All points of the line share the later noise, too, so they differ by "
        "$\\lambda$ alone.||What is the number under a result? The root of the mean squared difference from what was "
        "noised, in levels of 0 to 255. It grows with $t_0$, then stays: two pictures that have nothing to do with "
        "each other are about so far apart.",
        "为什么结果各不相同？它们都从同一个 $x_{t_0}$ 出发，但每个反向过程各自抽取 $\\sigma_t z$。"
        "$\\eta=0$ 的 DDIM 和 DPM-Solver++ 不抽取噪声：用它们，结果全都一样。||为什么不直接混合像素？"
        "两幅图像加的是同一个 $\\epsilon$，所以 $\\bar x_{t_0}$ 就是混合图像加噪后的样子。噪声遮住了重影，"
        "网络便在它所熟悉的图像中找出一幅可能藏在下面的（论文图 8）。直线上各点后续的噪声也相同，"
        "因此差别只来自 $\\lambda$。||结果下面的数字是什么？它与加噪前图像之差的均方根，以 0 到 255 的灰度级计。"
        "它随 $t_0$ 增大，然后不再变化：两幅毫不相干的图像之间大约就是这么远。",
    ),
    "mine.kind": ("What is denoised", "对什么去噪"),
    "mine.kind.several": ("One picture, several times", "一幅图像，多次去噪"),
    "mine.kind.between": ("Between two pictures", "两幅图像之间"),
    "mine.xt": ("noised to $t_0$", "加噪到 $t_0$"),
    "mine.xt.label": ("The picture noised to t = {t}, SNR {snr} dB", "加噪到 t = {t} 的图像，信噪比 {snr} dB"),
    "mine.x0_second": ("the second", "第二幅"),
    "mine.x0_second.label": ("The second picture", "第二幅图像"),
    "mine.swap": ("Swap the two, to choose the second", "交换两幅，以选择第二幅"),
    "mine.mixture": ("the plain blend, with $\\lambda$", "像素直接混合，下为 $\\lambda$"),
    "mine.mixture.label": ("Blends of the two pictures", "两幅图像的混合"),
    "mine.mixture.one": ("blend, lambda = {share}", "混合，lambda = {share}"),
    "mine.xt_mixture": ("noised to $t_0$", "加噪到 $t_0$"),
    "mine.xt_mixture.label": ("The blends, noised", "加噪后的混合图像"),
    "mine.xt_mixture.one": ("noised blend, lambda = {share}", "加噪后的混合，lambda = {share}"),
    "mine.denoised": ("denoised from $t_0={t0}$", "从 $t_0={t0}$ 去噪"),
    "mine.denoised.label": (
        "Results, each with its distance from what was noised, in levels of 0 to 255",
        "去噪结果，各附与加噪前图像的距离（0 到 255 的灰度级）",
    ),
    "mine.denoised.one": (
        "result {i}: {distance} levels away from what was noised",
        "结果 {i}：与加噪前图像相差 {distance} 级",
    ),
    "mine.distance": ("numbers: distance from what was noised, of 255", "数字：与加噪前图像的距离（满值 255）"),
    "mine.denoise": ("Denoise", "去噪"),
    "mine.drawing": ("Denoising a first example …", "正在计算第一个示例……"),
    "mine.example": ("Stored example: {summary}", "预先算好的示例：{summary}"),
    "mine.done": ("{summary}.", "{summary}。"),
    "mine.summary": (
        "{n} pictures from t₀ = {t0} in {steps} steps, seed {seed}, {seconds} s",
        "从 t₀ = {t0} 用 {steps} 步得到 {n} 张图像，种子 {seed}，{seconds} 秒",
    ),
    "mine.changed": (
        "The results are those of another picture, noise or t₀: denoise again.",
        "下面的结果属于另一幅图像、噪声或 t₀，请重新去噪。",
    ),
    "mine.stopped": ("Stopped at step {step} of {steps}.", "停在第 {step} / {steps} 步。"),
    "reverse.busy": (
        "Many visitors are here, and the model takes one at a time. Try again in a moment.",
        "访问者较多，模型一次只能服务一位。请稍后再试。",
    ),
    # links
    "link.copy": ("Copy link", "复制链接"),
    "link.field": ("Link to what is on screen", "当前画面的链接"),
    "link.copied": (
        "The link to this tab with its settings is copied.",
        "已复制链接：打开后会回到这个标签页和这些设置。",
    ),
    "link.copied.drawn": (
        "The link to this tab with its settings is copied; your own picture stays in this browser.",
        "已复制这个标签页及其设置的链接；你自己的图像只留在本浏览器中。",
    ),
    "link.by_hand": (
        "This browser does not let the page copy: the link is marked below, please copy it from there.",
        "浏览器不允许网页复制：链接已在下方选中，请手动复制。",
    ),
    "link.refused": ("Not taken from the link: {list}.", "链接中有内容未采用：{list}。"),
    "link.unknown": ("{name}: there is no such setting here", "{name}：这里没有这项设置"),
    # the tour: {t} is the timestep of the task
    "tour.start": ("Five-minute tour", "五分钟导览"),
    "tour.place": ("{i} of {n}", "第 {i} / {n} 站"),
    "tour.next": ("Next", "下一站"),
    "tour.back": ("Back", "上一站"),
    "tour.end": ("End tour", "结束导览"),
    "tour.finish": ("Finish", "完成"),
    "tour.there": ("Go to the controls", "转到控件"),
    "tour.forward.title": ("Noise in one step", "一步加噪"),
    "tour.forward.body": (
        "Everything begins with $q(x_t\\mid x_0)$: the picture times one number plus noise times another. No loop over "
        "steps and no network is needed to reach any $t$, which is what makes training cheap.",
        "一切从 $q(x_t\\mid x_0)$ 开始：图像乘一个数，加上噪声乘另一个数。到达任意 $t$ 都不用逐步循环，也不用网络，"
        "训练因此才便宜。",
    ),
    "tour.forward.try": (
        "Drag $t$ to {t}, where $\\bar\\alpha_t$ is {alpha_bar}. What is still to be seen of the picture, and what "
        "under the other schedule beside it?",
        "把 $t$ 拖到 {t}，那里 $\\bar\\alpha_t$ 是 {alpha_bar}。图像还看得出多少？旁边另一种调度下呢？",
    ),
    "tour.loss.title": ("The loss: which noise was it?", "损失：加的是哪份噪声？"),
    "tour.loss.body": (
        "The network sees $x_t$ and $t$ and names the noise. The loss is the mean squared error between “the network” "
        "$\\hat\\epsilon$ and “the truth” $\\epsilon$. Naming no noise at all costs 1; the MNIST model that comes with "
        "this program reaches 0.0218 on held-out digits.",
        "网络看到 $x_t$ 和 $t$，说出其中的噪声。损失是“网络” $\\hat\\epsilon$ 与“真值” $\\epsilon$ 的均方误差。"
        "完全不预测噪声的代价是 1；本程序附带的 MNIST 模型在留出集上达到 0.0218。",
    ),
    "tour.loss.try": (
        "Drag $t$ down to {t}: the difference lights up. Why is little noise harder to name than much?",
        "把 $t$ 拖到 {t}：差异亮起来了。为什么噪声少反而比噪声多更难说准？",
    ),
    "tour.target.title": ("Why the noise and not the picture?", "为什么预测噪声而不是图像？"),
    "tour.target.body": (
        "Knowing $x_t$, noise and picture follow from each other, so a network could be asked for either. We trained "
        "both on 8 by 8 digits: at $t\\le 10$ the one asked for the picture errs by 6.9 in the noise, the one asked "
        "for "
        "the noise by 0.59; beyond $t=400$ they hardly differ. The noise is the better target at the clean end, not "
        "everywhere.",
        "已知 $x_t$，噪声与图像可以互相推出，因此问网络哪一个都行。我们在 8×8 数字上两种都训练过：$t\\le 10$ 时，"
        "预测图像的网络换算成噪声误差为 6.9，预测噪声的为 0.59；$t$ 超过 400 后两者几乎没有差别。"
        "噪声在清晰端是更好的目标，并非处处如此。",
    ),
    "tour.target.try": (
        "This is the network’s one output read as $x_0$. Drag $t$ to {t}, then switch back to $\\epsilon$: at which "
        "end "
        "is each error large?",
        "这里把网络的同一个输出读作 $x_0$。把 $t$ 拖到 {t}，再切回 $\\epsilon$：两种误差各在哪一端较大？",
    ),
    "tour.bound.title": ("What training lowers", "训练降低的是什么"),
    "tour.bound.body": (
        "$-\\log p_\\theta(x_0)$ cannot be computed, but the ELBO bounds it: $L_T$, a KL divergence for every step, "
        "and "
        "$L_0$ for the pixels. Both sides of each KL are Gaussians and $\\Sigma$ is fixed, so only the means are "
        "left to learn. Over the 10,000 test digits of MNIST the model that comes with this program needs at most "
        "1.633 bits per dimension: 0.763 for the steps, 0.870 for the pixels, 0.00003 for $L_T$.",
        "$-\\log p_\\theta(x_0)$ 无法直接计算，但 ELBO 给出它的上界：$L_T$、每一步一个 KL 散度，以及像素项 $L_0$。"
        "每个 KL 的两边都是高斯分布，而 $\\Sigma$ 固定不学，要学的只剩均值。在 MNIST 的 10,000 张测试图像上，"
        "本程序附带的模型每维至多需要 1.633 比特：各步 0.763，像素 0.870，$L_T$ 0.00003。",
    ),
    "tour.bound.try": (
        "Choose another picture, or draw one. Which of the terms changes most?",
        "换一幅图像，或者自己画一幅。哪一项变化最大？",
    ),
    "tour.weights.title": ("From the bound to the noise", "从变分下界到噪声预测"),
    "tour.weights.body": (
        "Write the means by the noise, and each KL becomes $w_t\\Vert\\epsilon-\\hat\\epsilon\\Vert^2$. In the "
        "schedule of the paper, with $\\sigma_t^2=\\tilde\\beta_t$, $w_2$ is 112 times $w_{250}$; $L_\\mathrm{simple}$ "
        "drops the weights, and that is the loss of stop 2. On 8 by 8 digits, training with the weights gave samples "
        "at a Fréchet distance of 128, without them 22.",
        "把均值用噪声表示，每个 KL 就成了 $w_t\\Vert\\epsilon-\\hat\\epsilon\\Vert^2$。在论文的调度下，"
        "取 $\\sigma_t^2=\\tilde\\beta_t$ 时，$w_2$ 是 $w_{250}$ 的 112 倍；$L_\\mathrm{simple}$ 去掉了权重，"
        "这正是第 2 站的损失。"
        "在 8×8 数字上，带权重训练的样本 Fréchet 距离为 128，不带权重为 22。",
    ),
    "tour.weights.try": (
        "Switch between the true bound and the simple loss, and read below the slider up to which $t$ half of each "
        "lies.",
        "在真正的界与简化损失之间切换，看滑块下方：它们各有一半落在哪个 $t$ 之前？",
    ),
    "tour.reverse.title": ("From noise to a picture", "从噪声到图像"),
    "tour.reverse.body": (
        "Sampling walks back from $x_T$. At every step the network names the noise, from which follow the guess "
        "$\\hat x_0$ and the mean of $p_\\theta(x_{t-1}\\mid x_t)$; DDPM then adds fresh noise of the fixed variance.",
        "采样从 $x_T$ 往回走。每一步网络说出噪声，由此得到猜测 $\\hat x_0$ 和 $p_\\theta(x_{t-1}\\mid x_t)$ 的均值；"
        "DDPM 再按固定的方差加入新噪声。",
    ),
    "tour.reverse.try": (
        "Drag $t$ slowly to the left. At which $t$ can you tell from $\\hat x_0$ what it will be, and at which from "
        "$x_t$?",
        "把 $t$ 慢慢向左拖。到哪个 $t$ 能从 $\\hat x_0$ 看出会画成什么？从 $x_t$ 呢？",
    ),
    "tour.compare.title": ("Fewer steps", "更少的步数"),
    "tour.compare.body": (
        "The network is trained once; the sampler decides how often it is asked. With 10 of the {T} steps "
        "DPM-Solver++ is already good. DDIM keeps to the picture that it draws with many, only coarser; DDPM draws "
        "another one with every number of steps.",
        "网络只训练一次，问它多少次由采样器决定。{T} 步里只走 10 步，DPM-Solver++ 就已经很好。"
        "DDIM 仍画出步数多时的那幅图像，只是更粗略；DDPM 每换一个步数就画出另一幅图像。",
    ),
    "tour.compare.try": (
        "Start the rows from the same noise with few steps. Which rows are still good, and are their pictures "
        "the same?",
        "让各行从同一份噪声出发，用很少的步数。哪几行画得仍然好？它们的图像相同吗？",
    ),
    "tour.mine.title": ("Begin with your picture", "从你的图像开始"),
    "tour.mine.body": (
        "Sampling need not begin at $x_T$. The formula of stop 1 takes your picture to some $x_t$, and the network "
        "goes "
        "back from there: what the noise has covered, it makes up anew.",
        "采样不必从 $x_T$ 开始。用第 1 站的公式把你的图像变成某个 $x_t$，网络再从那里走回来："
        "被噪声盖住的部分由它重新画出。",
    ),
    "tour.mine.try": (
        "Draw badly what the model knows how to draw. Start from a small $t$, then from a large one: when is it "
        "mended, when replaced?",
        "故意画歪一个模型会画的东西。先从小的 $t$ 出发，再从大的 $t$ 出发：何时被修好，何时被换掉？",
    ),
    "tour.wrong.title": ("What goes wrong", "哪里会出错"),
    "tour.wrong.body": (
        "Every piece of the sampler is there for a reason, and the quickest way to see it is to take the piece away. "
        "The run beside it is right, from the same noise.",
        "采样器的每一部分都有它的理由，最快的理解方法就是把它拿掉。旁边是从同一份噪声出发的正确结果。",
    ),
    "tour.wrong.try": (
        "Choose one mistake, guess what it will do to the pictures, then look.",
        "选一个错误，先猜它会对图像做什么，再看结果。",
    ),
    "tour.training.title": ("The training loop", "训练循环"),
    "tour.training.body": (
        "Algorithm 1 is all of the above in five lines: draw a picture, a $t$ and noise; blend; ask the network; take "
        "the squared error; step down its gradient. The held-out error of the model that comes with this program was "
        "0.0259 after 1,000 such steps, 0.0224 after 6,000 and 0.0218 after 14,000.",
        "算法 1 用五行概括了以上一切：抽一张图像、一个 $t$ 和一份噪声；混合；问网络；取平方误差；沿梯度下降一步。"
        "本程序附带的模型在留出集上的误差，1,000 步后为 0.0259，6,000 步后为 0.0224，14,000 步后为 0.0218。",
    ),
    "tour.training.try": (
        "Find where the loss stops falling fast. Do the samples still improve after that?",
        "找到损失不再快速下降的地方。在那之后样本还在变好吗？",
    ),
    # training
    "training.question": ("How does the network learn this?", "网络是怎样学会的？"),
    "training.body": (
        "One training step takes a few pictures, draws a $t$ and noise $\\epsilon$ for each, and moves the weights a "
        "little towards naming that noise. The loss starts at 1, the price of always answering “no noise”; it falls "
        "steeply at first, then ever more slowly.",
        "训练的一步：取几幅图像，为每幅随机抽取 $t$ 和噪声 $\\epsilon$，让权重朝着“说出这份噪声”的方向移动一点。"
        "损失从 1 开始，这是永远回答“没有噪声”的代价；起初下降很快，后来越来越慢。",
    ),
    "training.try": (
        "Train a small model yourself, then drag the slider back: the loss soon hardly moves, but the samples still "
        "change. Then look at the losses by $t$: which are learnt first?",
        "亲自训练一个小模型，再把滑块拖回去看：损失很快就几乎不动了，样本却还在变化。"
        "再看按 $t$ 分开的损失：哪些最先学会？",
    ),
    "training.why": (
        "Why does the loss never reach 0? At small $t$ nobody can tell the little noise from texture. What is left "
        "there is no fault of the network; seen by $t$, the lines end at different heights for that reason.||Why two "
        "curves for held-out pictures? Averaged weights (EMA) smooth out the jitter of single steps, so as a "
        "rule their loss is lower than that of the raw ones. Samples are drawn with them.||Why do samples improve "
        "while the loss stands still? "
        "The loss averages over all $t$; shapes are decided by small gains at large $t$, which hardly show in the mean."
        "||Why logarithmic axes? Most of the fall happens in the first percent of the steps.",
        "为什么损失到不了 0？$t$ 小时，没有人能把那一点噪声和纹理分开。剩下的部分不是网络的错；"
        "按 $t$ 分开看，各条线因此停在不同的高度。||为什么留出集有两条曲线？平均权重（EMA）抹平了单个步骤的抖动，"
        "所以损失通常低于原始权重。采样用的就是它。||为什么损失不动了样本还在变好？损失是对所有 $t$ 的平均；"
        "形状取决于 $t$ 大时的微小进步，在平均值里几乎看不出来。"
        "||为什么用对数坐标？大部分下降发生在最初百分之一的步数里。",
    ),
    "training.recorded": ("This model", "本页的模型"),
    "training.live": ("Train one now", "现在就训练一个"),
    "training.start": ("Train", "开始训练"),
    "training.stop": ("Stop", "停止"),
    "training.loss": ("loss by training step", "各训练步的损失"),
    "training.chart": (
        "Training loss against the step, {view}, both axes logarithmic; click to choose a step",
        "训练损失随步数的变化，{view}，双对数坐标；点击可选择步数",
    ),
    "training.view": ("Which losses", "哪些损失"),
    "training.view.all": ("All t", "所有 t"),
    "training.view.by_t": ("By t", "按 t 分开"),
    "training.key.raw": ("training", "训练"),
    "training.key.smooth": ("smoothed", "平滑后"),
    "training.key.val": ("held out, raw weights", "留出集，原始权重"),
    "training.key.ema": ("held out, averaged weights", "留出集，平均权重"),
    "training.key.by_t": ("tenths of $T$, from clean to noise", "$T$ 的十等分，从清晰到噪声"),
    "training.key.full": ("after {steps} steps: {loss}", "训练 {steps} 步之后：{loss}"),
    "training.now": ("step {step}: {loss}", "第 {step} 步：{loss}"),
    "training.slider": ("training step", "训练步数"),
    "training.at": ("step {step}", "第 {step} 步"),
    "training.samples": ("samples at step {step}", "第 {step} 步的样本"),
    "training.samples.label": ("Samples drawn at training step {step}", "训练到第 {step} 步时的样本"),
    "training.start_noise": ("noise they start from", "样本的起点：噪声"),
    "training.start_noise.label": ("The fixed noise that all samples start from", "所有样本由此开始的固定噪声"),
    "training.again.recorded": ("To train it again:", "重新训练的命令："),
    "training.again.live": ("The same at full length:", "完整训练的命令："),
    "training.copy": ("Copy", "复制"),
    "training.copied": ("Copied", "已复制"),
    "training.reading": ("Reading what was recorded …", "正在读取训练记录……"),
    "training.failed_reading": ("The record of this training cannot be read now.", "现在无法读取训练记录。"),
    "training.options": (
        "{data}: {steps} steps of {batch} images, learning rate {rate}, widths {widths}, T = {T}, "
        "EMA half-life {ema} images.",
        "{data}：{steps} 步，每步 {batch} 幅图像，学习率 {rate}，通道数 {widths}，T = {T}，EMA 半衰期 {ema} 幅图像。",
    ),
    "training.own_data": ("Images of one’s own", "自有图像"),
    "training.no_options": (
        "Its files do not say with which options it was trained.",
        "它的文件没有说明训练时所用的选项。",
    ),
    "training.no_record": (
        "This model brings no record of its training (metrics.jsonl, samples), only weights. Train a small one below.",
        "这个模型没有附带训练记录（metrics.jsonl、样本），只有权重。可以在下面训练一个小模型。",
    ),
    "training.idle": (
        "The loop of train.py on scikit-learn’s digits, here and now: {steps} steps, or as many as {seconds} s allow.",
        "在这台服务器上用 train.py 的循环训练 scikit-learn 手写数字：{steps} 步，或 {seconds} 秒内能完成的步数。",
    ),
    "training.off": ("Live training is turned off on this server.", "这台服务器关闭了现场训练。"),
    "training.starting": ("Starting a process for it …", "正在启动训练进程……"),
    "training.loading": ("Loading {what} …", "正在加载 {what}……"),
    "training.loading.data": ("Preparing the digits and the network …", "正在准备手写数字和网络……"),
    "training.running": (
        "Step {step} of {steps}, loss {loss}, {speed} images/s",
        "第 {step} / {steps} 步，损失 {loss}，每秒 {speed} 幅图像",
    ),
    "training.watching.running": (
        "Another visitor is training, and you are watching: step {step} of {steps}, loss {loss}, {speed} images/s",
        "另一位访客正在训练，你在旁观：第 {step} / {steps} 步，损失 {loss}，每秒 {speed} 幅图像",
    ),
    "training.watching.ended": (
        "The other visitor’s training has ended at step {step}. You can start your own now.",
        "另一位访客的训练已在第 {step} 步结束，现在可以开始你自己的训练。",
    ),
    "training.busy": (
        "Another visitor is training at the moment, one at a time. Watch theirs, and start yours when it has ended.",
        "另一位访客正在训练，同一时间只能有一个。可以先旁观，等它结束后再开始。",
    ),
    "training.ending": (
        "Step {step} of {steps}: measuring and drawing the last samples …",
        "第 {step} / {steps} 步：正在评估并生成最后一批样本……",
    ),
    "training.finished": (
        "Finished: {step} steps in {seconds} s, held-out loss {loss}.",
        "完成：{step} 步，用时 {seconds} 秒，留出集损失 {loss}。",
    ),
    "training.time": (
        "Time is up: {step} steps in {seconds} s, held-out loss {loss}.",
        "时间到：{step} 步，用时 {seconds} 秒，留出集损失 {loss}。",
    ),
    "training.stopped": ("Stopped at step {step}, loss {loss}.", "停在第 {step} 步，损失 {loss}。"),
    "training.late": (
        "Ended after {seconds} s, the most that this server allows, at step {step}.",
        "已达到服务器允许的上限 {seconds} 秒，停在第 {step} 步。",
    ),
    "training.left": (
        "Ended at step {step}, since the server did not hear of this page for a while.",
        "已在第 {step} 步结束：服务器有一段时间没有收到本页的消息。",
    ),
    "training.failed": (
        "The training ended unexpectedly. Please try again.",
        "训练意外终止，请重试。",
    ),
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
        "The run was ended after {limit} s of computing. Take fewer steps or pictures.",
        "采样在计算 {limit} 秒后被终止。请减少步数或张数。",
    ),
    "refused.crowded": (
        "So many visitors share the model that this was ended after {limit} s. Try again later.",
        "同时使用模型的访问者太多，已在 {limit} 秒后终止。请稍后再试。",
    ),
    "refused.calls": (
        "{value} network calls in all rows together: {high} at most. Take fewer steps.",
        "所有行共 {value} 次网络调用：最多 {high} 次。请减少步数。",
    ),
    "field.num_inference_steps": ("Steps", "步数"),
    "field.num_images": ("Pictures", "张数"),
    "field.seed": ("Seed", "随机种子"),
    "field.eta": ("η", "η"),
    "field.x0": ("x_0", "x_0"),
    "field.noise_seed": ("Noise", "噪声"),
    "field.sampler": ("Sampler", "采样器"),
    "field.second": ("x_0′", "x_0′"),
    "field.t0": ("t₀", "t₀"),
    "field.rows": ("Rows", "行数"),
    "field.start_t": ("Begin at t", "起始 t"),
    "field.clip": ("Clipping", "截断"),
    "field.fresh_noise": ("Fresh noise", "新噪声"),
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
    "x0_second": r"x_0'",
    "mixture": r"(1-\lambda)x_0+\lambda x_0'",
    "xt_mixture": r"\bar x_{t_0}",
    "denoised": r"\bar x_0",
    "mine": r"\begin{aligned}\htmlData{of=xt}{x_{t_0}}&=\sqrt{\bar\alpha_{t_0}}\,\htmlData{of=x0}{x_0}"
    r"+\sqrt{1-\bar\alpha_{t_0}}\,\epsilon\\[3pt]"
    r"\htmlData{of=xt_mixture}{\bar x_{t_0}}&=(1-\lambda)\,\htmlData{of=xt}{x_{t_0}}+\lambda\,x_{t_0}'\\[3pt]"
    r"\htmlData{of=denoised}{\bar x_0}&\sim p_\theta(x_0\mid\htmlData{of=xt_mixture}{\bar x_{t_0}})\end{aligned}",
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
    "ddim": r"\begin{aligned}x_{s}={}&\sqrt{\bar\alpha_s}\,\htmlData{of=x0_hat}{\hat x_0}\\"
    r"&+\sqrt{1-\bar\alpha_s-\sigma_t^2}\;\htmlData{of=eps_hat}{\hat\epsilon}+\sigma_t z\end{aligned}",
    "ancestral": r"\begin{aligned}x_{t-1}&=\tilde\mu_t(\htmlData{of=xt}{x_t},\htmlData{of=x0_hat}{\hat x_0})"
    r"+\sigma_t z\\z&\sim\mathcal N(0,I)\ \ (t>1),\quad z=0\ \ (t=1)\end{aligned}",
    "training": r"\begin{aligned}t&\sim\mathrm{U}(1\dots T),\quad\epsilon\sim\mathcal N(0,I)\\[3pt]"
    r"\theta&\leftarrow\theta-\eta\,\nabla_{\!\theta}\,\htmlData{of=loss}{\big\Vert\epsilon"
    r"-\epsilon_\theta(x_t,t)\big\Vert^2}\end{aligned}",
    "guess": r"\htmlData{of=x0_hat}{\hat x_0}=\frac{\htmlData{of=xt}{x_t}-\sqrt{1-\bar\alpha_t}\,"
    r"\htmlData{of=eps_hat}{\hat\epsilon}}{\sqrt{\bar\alpha_t}}",
}
"""name -> TeX; the same in every language."""


def say(key: str, language: str = "en", **fields: object) -> str:
    """The string of `key` with its fields filled in."""
    return TEXT[language][key].format(**fields)
