//! A next-token model small enough to train in seconds: two embeddings, one hidden layer, one head.
//!
//! ```text
//! x      = [embedding[a], embedding[b]]
//! h      = relu(x w1 + b1)
//! logits = h w2 + b2
//! ```
//!
//! The loss and `dlogits` come from tokenloss; what follows is the chain rule by hand.

use super::source::Examples;
use crate::backend::Engine;
use anyhow::Result;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use tokenloss::{Batch, Denominator, Logits, Objective, Outputs, Reduction, Shape};

/// The sizes of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Tokens.
    pub(super) vocab: usize,
    /// Width of one embedding.
    pub(super) dim: usize,
    /// Width of the hidden layer.
    pub(super) hidden: usize,
}

/// Where each block lies in the flat vector of parameters.
#[derive(Debug, Clone)]
struct Layout {
    embedding: Range<usize>,
    w1: Range<usize>,
    b1: Range<usize>,
    w2: Range<usize>,
    b2: Range<usize>,
}

impl Sizes {
    fn layout(self) -> Layout {
        let mut end = 0;
        let mut block = |length: usize| {
            let start = end;
            end += length;
            start..end
        };
        Layout {
            embedding: block(self.vocab * self.dim),
            w1: block(2 * self.dim * self.hidden),
            b1: block(self.hidden),
            w2: block(self.hidden * self.vocab),
            b2: block(self.vocab),
        }
    }
}

/// AdamW with the settings of the paper's code; only the learning rate is ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdamW;

impl AdamW {
    const BETAS: (f32, f32) = (0.9, 0.95);
    const EPS: f32 = 1e-8;
    const DECAY: f32 = 0.01;
    const CLIP: f32 = 1.0;
}

/// The parameters and the optimiser's state.
#[derive(Debug, Clone)]
pub(super) struct Model {
    sizes: Sizes,
    layout: Layout,
    params: Vec<f32>,
    moments: (Vec<f32>, Vec<f32>),
    steps: i32,
}

/// The buffers of a pass over at most `rows` rows.
#[derive(Debug)]
pub(super) struct Workspace {
    layout: Layout,
    x: Vec<f32>,
    h: Vec<f32>,
    logits: Vec<f32>,
    dh: Vec<f32>,
    dx: Vec<f32>,
    grads: Vec<f32>,
}

impl Workspace {
    /// For at most `rows` rows.
    pub(super) fn new(sizes: Sizes, rows: usize) -> Self {
        let layout = sizes.layout();
        Self {
            x: vec![0.0; rows * 2 * sizes.dim],
            h: vec![0.0; rows * sizes.hidden],
            logits: vec![0.0; rows * sizes.vocab],
            dh: vec![0.0; rows * sizes.hidden],
            dx: vec![0.0; rows * 2 * sizes.dim],
            grads: vec![0.0; layout.b2.end],
            layout,
        }
    }
}

/// What a model makes of examples.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Score {
    /// The share of examples whose label is the most probable token.
    pub(super) accuracy: f64,
    /// The mean probability of the label.
    pub(super) mean_p: f64,
}

fn view(data: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), &data[..rows * columns]).expect("rows * columns elements")
}

fn view_mut(data: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), &mut data[..rows * columns]).expect("rows * columns elements")
}

impl Model {
    /// Random weights: uniform, of variance 1 / width of the input.
    pub(super) fn new(rng: &mut ChaCha8Rng, sizes: Sizes) -> Self {
        let layout = sizes.layout();
        let mut params = vec![0.0; layout.b2.end];
        let mut fill = |range: &Range<usize>, variance: f32| {
            let bound = (3.0 * variance).sqrt();
            params[range.clone()].iter_mut().for_each(|w| *w = rng.random_range(-bound..bound));
        };
        fill(&layout.embedding, 1.0);
        fill(&layout.w1, 1.0 / (2 * sizes.dim) as f32);
        fill(&layout.w2, 1.0 / sizes.hidden as f32);
        let moments = (vec![0.0; params.len()], vec![0.0; params.len()]);
        Self { sizes, layout, params, moments, steps: 0 }
    }

    /// The same weights with a fresh optimiser.
    pub(super) fn restarted(&self) -> Self {
        let zeros = vec![0.0; self.params.len()];
        Self { moments: (zeros.clone(), zeros), steps: 0, ..self.clone() }
    }

    fn forward(&self, work: &mut Workspace, contexts: &[[u32; 2]]) {
        let Sizes { vocab, dim, hidden } = self.sizes;
        let (rows, at) = (contexts.len(), &self.layout);
        let embedding = &self.params[at.embedding.clone()];
        for (x, context) in work.x.chunks_exact_mut(2 * dim).zip(contexts) {
            for (x, &token) in x.chunks_exact_mut(dim).zip(context) {
                x.copy_from_slice(&embedding[token as usize * dim..][..dim]);
            }
        }
        affine(
            &work.x,
            &self.params[at.w1.clone()],
            &self.params[at.b1.clone()],
            &mut work.h,
            rows,
            2 * dim,
            hidden,
        );
        work.h[..rows * hidden].iter_mut().for_each(|h| *h = h.max(0.0));
        affine(
            &work.h,
            &self.params[at.w2.clone()],
            &self.params[at.b2.clone()],
            &mut work.logits,
            rows,
            hidden,
            vocab,
        );
    }

    /// One step on a batch: forward, loss and gradient by `engine`, backward, AdamW.
    pub(super) fn step(
        &mut self,
        work: &mut Workspace,
        engine: &Engine,
        objective: &Objective,
        contexts: &[[u32; 2]],
        labels: &[i32],
        rate: f32,
    ) -> Result<()> {
        let Sizes { vocab, dim, hidden } = self.sizes;
        let rows = contexts.len();
        self.forward(work, contexts);

        // The mean over kept rows is what the paper's code takes; without a threshold all rows are kept.
        let batch = Batch::new(Shape::new(rows, vocab)?, labels)?;
        let logits = Logits::InPlace(&mut work.logits[..rows * vocab]);
        let reduction = Reduction::Mean(Denominator::Kept);
        engine.evaluate(&(*objective).into(), reduction, &batch, logits, Outputs::default())?;

        let Layout { embedding, w1, b1, w2, b2 } = work.layout.clone();
        let dlogits = view(&work.logits, rows, vocab);
        let grads = &mut work.grads;
        grads[embedding.clone()].fill(0.0);
        let h = view(&work.h, rows, hidden);
        general_mat_mul(1.0, &h.t(), &dlogits, 0.0, &mut view_mut(&mut grads[w2.clone()], hidden, vocab));
        sum_rows(dlogits, &mut grads[b2]);
        let head = view(&self.params[w2], hidden, vocab);
        general_mat_mul(1.0, &dlogits, &head.t(), 0.0, &mut view_mut(&mut work.dh, rows, hidden));
        for (dh, &h) in work.dh[..rows * hidden].iter_mut().zip(&work.h) {
            if h <= 0.0 {
                *dh = 0.0;
            }
        }
        let dh = view(&work.dh, rows, hidden);
        let x = view(&work.x, rows, 2 * dim);
        general_mat_mul(1.0, &x.t(), &dh, 0.0, &mut view_mut(&mut grads[w1.clone()], 2 * dim, hidden));
        sum_rows(dh, &mut grads[b1]);
        let layer = view(&self.params[w1], 2 * dim, hidden);
        general_mat_mul(1.0, &dh, &layer.t(), 0.0, &mut view_mut(&mut work.dx, rows, 2 * dim));
        for (dx, context) in work.dx.chunks_exact(2 * dim).zip(contexts) {
            for (dx, &token) in dx.chunks_exact(dim).zip(context) {
                let row = &mut grads[embedding.start + token as usize * dim..][..dim];
                row.iter_mut().zip(dx).for_each(|(g, d)| *g += d);
            }
        }
        self.update(&work.grads, rate);
        Ok(())
    }

    fn update(&mut self, grads: &[f32], rate: f32) {
        let (beta1, beta2) = AdamW::BETAS;
        self.steps += 1;
        let norm = norm(grads);
        let clip = if norm > AdamW::CLIP { AdamW::CLIP / norm } else { 1.0 };
        let (correct1, correct2) = (1.0 - beta1.powi(self.steps), 1.0 - beta2.powi(self.steps));
        let state = self.moments.0.iter_mut().zip(&mut self.moments.1);
        for ((w, g), (m, v)) in self.params.iter_mut().zip(grads).zip(state) {
            let g = g * clip;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let step = (*m / correct1) / ((*v / correct2).sqrt() + AdamW::EPS);
            *w -= rate * (step + AdamW::DECAY * *w);
        }
    }

    /// Accuracy and mean probability of the labels.
    pub(super) fn score(&self, work: &mut Workspace, engine: &Engine, examples: &Examples) -> Result<Score> {
        let vocab = self.sizes.vocab;
        let most = work.logits.len() / vocab;
        let (mut right, mut p) = (0usize, 0.0f64);
        let (mut log_p, mut argmax) = (vec![0.0; most], vec![0; most]);
        for (contexts, labels) in examples.contexts.chunks(most).zip(examples.labels.chunks(most)) {
            let rows = contexts.len();
            self.forward(work, contexts);
            let batch = Batch::new(Shape::new(rows, vocab)?, labels)?;
            let outputs = Outputs {
                log_p: Some(&mut log_p[..rows]),
                argmax: Some(&mut argmax[..rows]),
                ..Outputs::default()
            };
            let logits = Logits::Read(&work.logits[..rows * vocab]);
            engine.evaluate(&tokenloss::Nll.into(), Reduction::Sum, &batch, logits, outputs)?;
            right += argmax.iter().zip(labels).filter(|(a, b)| a == b).count();
            p += log_p[..rows].iter().map(|&log_p| f64::from(log_p).exp()).sum::<f64>();
        }
        let count = examples.labels.len() as f64;
        Ok(Score { accuracy: right as f64 / count, mean_p: p / count })
    }
}

/// `out = x w + b`, with one bias for every row.
fn affine(x: &[f32], w: &[f32], b: &[f32], out: &mut [f32], rows: usize, inner: usize, columns: usize) {
    let mut out = view_mut(out, rows, columns);
    general_mat_mul(1.0, &view(x, rows, inner), &view(w, inner, columns), 0.0, &mut out);
    for mut row in out.axis_iter_mut(Axis(0)) {
        row.iter_mut().zip(b).for_each(|(o, b)| *o += b);
    }
}

fn sum_rows(matrix: ArrayView2<'_, f32>, out: &mut [f32]) {
    out.fill(0.0);
    for row in matrix.axis_iter(Axis(0)) {
        out.iter_mut().zip(row).for_each(|(o, x)| *o += x);
    }
}

/// The Euclidean norm. Eight sums run side by side, which the order of one sum would forbid.
fn norm(values: &[f32]) -> f32 {
    let mut sums = [0.0f64; 8];
    for chunk in values.chunks(sums.len()) {
        sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    }
    sums.iter().sum::<f64>().sqrt() as f32
}
