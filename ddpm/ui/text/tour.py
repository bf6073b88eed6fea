"""The tour. `{t}` is the timestep of a stop's task."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "tour.start": ("Five-minute tour", "五分钟导览"),
    "tour.place": ("{i} of {n}", "第 {i} / {n} 站"),
    "tour.next": ("Next", "下一站"),
    "tour.back": ("Back", "上一站"),
    "tour.end": ("End tour", "结束导览"),
    "tour.finish": ("Finish", "完成"),
    "tour.there": ("Go to the controls", "转到控件"),
    "tour.forward.title": ("Noise in one step", "一步加噪"),
    "tour.forward.body": (
        "Everything begins with $q(x_t\\mid x_0)$: the picture times one number plus noise times another. Reaching any "
        "$t$ takes no loop over steps and no network, and this makes training cheap.",
        "一切从 $q(x_t\\mid x_0)$ 开始：图像乘一个数，加上噪声乘另一个数。到达任意 $t$ 都不用逐步循环，也不用网络，"
        "训练因此才便宜。",
    ),
    "tour.forward.try": (
        "Drag $t$ to {t}, where $\\bar\\alpha_t$ is {alpha_bar}. How much of the picture can you still see, and how "
        "much under the other schedule beside it?",
        "把 $t$ 拖到 {t}，那里 $\\bar\\alpha_t$ 是 {alpha_bar}。图像还看得出多少？旁边另一种调度下呢？",
    ),
    "tour.loss.title": ("The loss: which noise was it?", "损失：加的是哪份噪声？"),
    "tour.loss.body": (
        "The network sees $x_t$ and $t$ and predicts the noise. The loss is the mean squared error between the "
        "“prediction” $\\hat\\epsilon$ and the “true value” $\\epsilon$. Always predicting no noise costs 1; the MNIST "
        "model that comes with this program reaches 0.0207 on held-out digits.",
        "网络看到 $x_t$ 和 $t$，预测其中的噪声。损失是“网络预测” $\\hat\\epsilon$ 与“真值” $\\epsilon$ 的均方误差。"
        "总预测没有噪声的代价是 1；本程序附带的 MNIST 模型在留出集上达到 0.0207。",
    ),
    "tour.loss.try": (
        "Drag $t$ down to {t}: the difference lights up. Why is a little noise harder to predict than a lot?",
        "把 $t$ 拖到 {t}：差异亮起来了。为什么噪声少反而比噪声多更难预测？",
    ),
    "tour.target.title": ("Why the noise and not the picture?", "为什么预测噪声而不是图像？"),
    "tour.target.body": (
        "Given $x_t$, the noise determines the picture and vice versa, so a network can predict either. We trained "
        "both on 8 by 8 digits. At $t\\le 10$, the network that predicts the picture has an error of 6.9, converted "
        "to noise; the one that predicts the noise has 0.59. Beyond $t=400$ they hardly differ. So the noise is the "
        "better target at the clean end, not everywhere.",
        "已知 $x_t$，噪声与图像可以互相推出，因此网络预测哪一个都行。我们在 8×8 数字上两种都训练过。$t\\le 10$ 时，"
        "预测图像的网络换算成噪声后误差为 6.9，预测噪声的为 0.59；超过 $t=400$ 后两者几乎没有差别。"
        "所以噪声在干净端是更好的目标，并非处处如此。",
    ),
    "tour.target.try": (
        "Here the network’s one output is read as $x_0$. Drag $t$ to {t}, then switch back to $\\epsilon$: at which "
        "end is each error large?",
        "这里把网络的同一个输出看作 $x_0$。把 $t$ 拖到 {t}，再切回 $\\epsilon$：两种误差各在哪一端较大？",
    ),
    "tour.bound.title": ("What training minimises", "训练最小化的是什么"),
    "tour.bound.body": (
        "$-\\log p_\\theta(x_0)$ cannot be computed, but −ELBO bounds it from above: it adds up $L_T$, one KL "
        "divergence for every step, and $L_0$ for the pixels. Both sides of each KL are Gaussians and $\\Sigma$ is "
        "fixed, so only the means are left to learn. On the 10,000 test digits of MNIST, the model mnist needs at most "
        "1.590 bits per dimension: 0.740 for the steps, 0.850 for the pixels, 0.00003 for $L_T$. A network that was "
        "trained for this bound needs 1.026 (the model mnist_bound).",
        "$-\\log p_\\theta(x_0)$ 无法直接计算，但负的变分下界（−ELBO）是它的上界："
        "由 $L_T$、每一步一个 KL 散度和像素项 $L_0$ 相加而成。每个 KL 的两边都是高斯分布，而 $\\Sigma$ 固定不学，"
        "要学的只剩均值。在 MNIST 的 10,000 张测试图像上，模型 mnist 每维至多需要 1.590 比特：各步 0.740，"
        "像素 0.850，$L_T$ 0.00003。以这个上界为目标训练的网络只需 1.026 比特（模型 mnist_bound）。",
    ),
    "tour.bound.try": (
        "Choose another picture, or draw one. Which of the terms changes most?",
        "换一张图像，或者自己画一张。哪一项变化最大？",
    ),
    "tour.weights.title": ("From the bound to the noise", "从变分上界到噪声预测"),
    "tour.weights.body": (
        "With the means written in terms of the noise, each KL becomes $w_t\\Vert\\epsilon-\\hat\\epsilon\\Vert^2$. "
        "In the paper’s schedule, with $\\sigma_t^2=\\tilde\\beta_t$, $w_2$ is 112 times $w_{250}$; "
        "$L_\\mathrm{simple}$ drops the weights and is the loss of stop 2. On 8 by 8 digits, training with the "
        "weights gave samples at a Fréchet distance of 128, and training without them 22.",
        "把均值用噪声表示，每个 KL 就成了 $w_t\\Vert\\epsilon-\\hat\\epsilon\\Vert^2$。在论文的调度下，"
        "取 $\\sigma_t^2=\\tilde\\beta_t$ 时，$w_2$ 是 $w_{250}$ 的 112 倍；$L_\\mathrm{simple}$ 去掉了权重，"
        "这正是第 2 站的损失。在 8×8 数字上，带权重训练所得样本的 Fréchet 距离为 128，不带权重为 22。",
    ),
    "tour.weights.try": (
        "Switch between the variational bound and the simple loss. Below the slider you can read up to which $t$ half "
        "of each lies.",
        "在变分上界与简化损失之间切换。滑块下方写着：它们各有一半落在哪个 $t$ 之前。",
    ),
    "tour.reverse.title": ("From noise to a picture", "从噪声到图像"),
    "tour.reverse.body": (
        "Sampling walks back from $x_T$. At every step the network predicts the noise, which gives the guess "
        "$\\hat x_0$ and the mean of $p_\\theta(x_{t-1}\\mid x_t)$; DDPM then adds fresh noise of the fixed variance.",
        "采样从 $x_T$ 往回走。每一步网络预测噪声，由此得到猜测 $\\hat x_0$ 和 $p_\\theta(x_{t-1}\\mid x_t)$ 的均值；"
        "DDPM 再按固定的方差加入新噪声。",
    ),
    "tour.reverse.try": (
        "Drag $t$ slowly to the left. At which $t$ does $\\hat x_0$ show what the picture will be, and at which does "
        "$x_t$?",
        "把 $t$ 慢慢向左拖。到哪个 $t$ 能从 $\\hat x_0$ 看出会画成什么？从 $x_t$ 呢？",
    ),
    "tour.labels.title": ("Ask for one", "指定要画什么"),
    "tour.labels.body": (
        "With the label as one more input, the same network predicts two noises: one without the label and one with "
        "it. Their difference tells what the label changes, and guidance multiplies it by $s$.",
        "多输入一个标签，同一个网络就能预测两份噪声：一份不看标签，一份看标签。"
        "两者之差就是标签改变的部分，引导把它乘以 $s$。",
    ),
    "tour.labels.try": (
        "Choose a label and compare the rows. What do you win with a large $s$, and what do you lose? Then draw "
        "something at the foot of the tab: which label does the bound give it?",
        "选一个标签，比较各行。$s$ 大的时候得到了什么，又失去了什么？再到本页底部画点什么：变分上界会给它哪个标签？",
    ),
    "tour.compare.title": ("Fewer steps", "更少的步数"),
    "tour.compare.body": (
        "The network is trained once; the sampler decides how often to call it. With 10 of the {T} steps DPM-Solver++ "
        "is already good. DDIM draws the same picture as with many steps, only coarser; DDPM draws a different one "
        "with every number of steps.",
        "网络只训练一次，调用它多少次由采样器决定。{T} 步里只走 10 步，DPM-Solver++ 就已经很好。"
        "DDIM 仍画出步数多时的那张图像，只是更粗略；DDPM 每换一个步数就画出另一张图像。",
    ),
    "tour.compare.try": (
        "Sample the rows from the same noise with few steps. Which rows are still good, and do they show the same "
        "pictures?",
        "让各行从同一份噪声出发，用很少的步数采样。哪几行画得仍然好？它们的图像相同吗？",
    ),
    "tour.mine.title": ("Begin with your picture", "从你的图像开始"),
    "tour.mine.body": (
        "Sampling need not begin at $x_T$. The formula of stop 1 turns your picture into some $x_t$, and the network "
        "goes back from there: it makes up what the noise has covered.",
        "采样不必从 $x_T$ 开始。用第 1 站的公式把你的图像变成某个 $x_t$，网络再从那里走回来："
        "被噪声盖住的部分由它重新画出。",
    ),
    "tour.mine.try": (
        "Draw badly what the model draws well. Start from a small $t$, then from a large one: when does the network "
        "mend your drawing, and when replace it?",
        "故意画歪一个模型会画的东西。先从小的 $t$ 出发，再从大的 $t$ 出发：网络何时修好你的画，何时换掉它？",
    ),
    "tour.wrong.title": ("What goes wrong", "哪里会出错"),
    "tour.wrong.body": (
        "Every part of the sampler has its reason, and the quickest way to see it is to take the part away. The other "
        "row shows the correct result from the same noise.",
        "采样器的每一部分都有它的理由，最快的理解方法就是把它拿掉。另一行是从同一份噪声出发的正确结果。",
    ),
    "tour.wrong.try": (
        "Choose one mistake, guess what it will do to the pictures, then look.",
        "选一个错误，先猜它会对图像做什么，再看结果。",
    ),
    "tour.training.title": ("The training loop", "训练循环"),
    "tour.training.body": (
        "Algorithm 1 is all of the above in five lines: draw a picture, a $t$ and noise; blend them; call the network; "
        "take the squared error; step down its gradient. On the same held-out draws each time, the error "
        "of the model mnist was 0.0237 after 1,000 such steps, 0.0215 after 6,000 and 0.0210 after 14,000.",
        "算法 1 用五行概括了以上一切：抽一张图像、一个 $t$ 和一份噪声；混合；调用网络；取平方误差；沿梯度下降一步。"
        "用同一批固定的留出样本测量，模型 mnist 的误差在 1,000 步后为 0.0237，6,000 步后为 0.0215，"
        "14,000 步后为 0.0210。",
    ),
    "tour.training.try": (
        "Find where the loss stops falling fast. Do the samples still improve after that?",
        "找到损失不再快速下降的地方。在那之后样本还在变好吗？",
    ),
}
