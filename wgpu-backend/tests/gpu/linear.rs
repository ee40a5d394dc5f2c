//! The linear form against the oracle, on host slices.

use crate::data::Random;
use crate::machine::{baseline, gpus, low_limits, open, say};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::reference::{self, LinearResults};
use tokenloss_core::{
    AnyRow, AnyToken, Batch, Budget, ClassMask, Composite, Denominator, Dtype, Element, Error,
    EvaluateLinear, Linear, LinearBackend, LinearGradients, LinearOptions, LogitMap, Nll, NonFinite,
    Objective, Outputs, Reduction, RowObjective, RowPart, RowPartials, RowSummary, Shape, Totals,
    summaries_of_parts,
};
use tokenloss_wgpu::{Gpu, GpuError, LinearRequest, Variant, shaders::RECORD_WORDS};

/// A batch, a head, and what is asked of them.
pub(crate) struct Case<E> {
    pub(crate) dim: usize,
    pub(crate) vocab: usize,
    pub(crate) hidden: Vec<E>,
    pub(crate) weight: Vec<E>,
    pub(crate) bias: Option<Vec<E>>,
    pub(crate) targets: Vec<i32>,
    pub(crate) weights: Option<Vec<f32>>,
    pub(crate) non_finite: NonFinite,
    pub(crate) map: Option<LogitMap<'static>>,
}

impl<E: Element> Case<E> {
    pub(crate) fn new(rows: usize, dim: usize, vocab: usize, extras: bool) -> Self {
        let mut random = Random((rows * 31 + dim * 17 + vocab) as u64 | 1);
        let mut numbers = |count: usize, scale: f32| -> Vec<E> {
            (0..count).map(|_| E::from_f32(random.between(-scale, scale))).collect()
        };
        let (hidden, weight) = (numbers(rows * dim, 1.0), numbers(vocab * dim, 4.0 / (dim as f32).sqrt()));
        let bias = extras.then(|| numbers(vocab, 1.0));
        let mut targets: Vec<i32> = (0..rows).map(|row| ((row * 7919 + 3) % vocab) as i32).collect();
        let mut weights = None;
        if extras {
            (1..rows).step_by(3).for_each(|row| targets[row] = -100);
            weights = Some((0..rows).map(|row| [1.0, 0.0, 2.5, 0.25][row % 4]).collect());
        }
        Self { dim, vocab, hidden, weight, bias, targets, weights, non_finite: NonFinite::Error, map: None }
    }

    pub(crate) fn linear(&self) -> Linear<'_, E> {
        let mut batch =
            Batch::new(Shape::new(self.targets.len(), self.vocab).unwrap(), &self.targets).unwrap();
        if let Some(weights) = &self.weights {
            batch = batch.with_weights(weights).unwrap();
        }
        if let Some(map) = self.map {
            batch = batch.with_map(map).unwrap();
        }
        let batch = batch.with_non_finite(self.non_finite);
        let linear = Linear::new(batch, self.dim, &self.hidden, &self.weight).unwrap();
        match &self.bias {
            Some(bias) => linear.with_bias(bias).unwrap(),
            None => linear,
        }
    }

    pub(crate) fn shard(&self, columns: std::ops::Range<usize>) -> Linear<'_, E> {
        let batch = *self.linear().batch();
        let weight = &self.weight[columns.start * self.dim..columns.end * self.dim];
        let linear = Linear::shard(batch, self.dim, &self.hidden, weight, columns.clone()).unwrap();
        match &self.bias {
            Some(bias) => linear.with_bias(&bias[columns]).unwrap(),
            None => linear,
        }
    }
}

/// What comes out, in one type for both sides.
#[derive(Clone, PartialEq)]
pub(crate) struct Out {
    pub(crate) losses: Vec<f64>,
    pub(crate) dhidden: Vec<f64>,
    pub(crate) dweight: Vec<f64>,
    pub(crate) dbias: Vec<f64>,
}

pub(crate) fn reference<T: num_traits::Float, E: Element, O: RowObjective>(
    objective: &O,
    reduction: Reduction,
    case: &Case<E>,
) -> (Out, Totals) {
    let (rows, zero) = (case.targets.len(), T::zero());
    let (mut losses, mut summaries) = (vec![zero; rows], vec![RowSummary::nan(); rows]);
    let (mut dhidden, mut dweight) = (vec![zero; rows * case.dim], vec![zero; case.vocab * case.dim]);
    let (mut dbias, mut scratch) = (vec![zero; case.vocab], vec![zero; 2 * case.vocab]);
    let results = LinearResults {
        losses: &mut losses,
        summaries: &mut summaries,
        dhidden: &mut dhidden,
        dweight: &mut dweight,
        dbias: &mut dbias,
        scratch: &mut scratch,
    };
    let totals = reference::evaluate_linear(objective, reduction, &case.linear(), results).unwrap();
    let wide = |values: Vec<T>| values.into_iter().map(|v| v.to_f64().unwrap()).collect();
    let out =
        Out { losses: wide(losses), dhidden: wide(dhidden), dweight: wide(dweight), dbias: wide(dbias) };
    (out, totals)
}

pub(crate) fn evaluate<E: Element, G: Element, O>(
    gpu: &Gpu,
    objective: &O,
    reduction: Reduction,
    case: &Case<E>,
    options: &LinearOptions,
) -> Result<(Out, Totals), GpuError>
where
    Gpu: EvaluateLinear<O, Error = GpuError>,
{
    let rows = case.targets.len();
    let mut losses = vec![9.0f32; rows];
    // What is overwritten begins as NaN.
    let mut dhidden = vec![G::from_f32(f32::NAN); rows * case.dim];
    let (mut dweight, mut dbias) = (vec![0.0f32; case.vocab * case.dim], vec![0.0f32; case.vocab]);
    let gradients = LinearGradients {
        dhidden: Some(&mut dhidden[..]),
        dweight: Some(&mut dweight[..]),
        dbias: Some(&mut dbias[..]),
    };
    let outputs = Outputs { losses: Some(&mut losses), ..Outputs::default() };
    let totals = gpu.evaluate_linear(objective, reduction, &case.linear(), options, gradients, outputs)?;
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let dhidden = dhidden.iter().map(|v| f64::from(v.to_f32())).collect();
    Ok((Out { losses: wide(&losses), dhidden, dweight: wide(&dweight), dbias: wide(&dbias) }, totals))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b))
}

/// The error of a whole tensor is at most four times that of the plainest computation in f32, and a few roundings of
/// its norm: the exponential is granted 4e-7, and 16-bit storage one rounding. Returns the share of that which was used.
pub(crate) fn check(what: &str, got: &Out, truth: &Out, plain: &Out, storage: Dtype) -> f64 {
    let rounding = match storage {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        Dtype::Bf16 => 2f64.powi(-8),
    };
    // Smaller numbers are subnormal in f16, or nothing.
    let least = if storage == Dtype::F16 { 2f64.powi(-25) } else { 1e-37 };
    let tensors = [
        ("losses", &got.losses, &truth.losses, &plain.losses, 0.0, 1e-37),
        ("dhidden", &got.dhidden, &truth.dhidden, &plain.dhidden, rounding, least),
        ("dweight", &got.dweight, &truth.dweight, &plain.dweight, 0.0, 1e-37),
        ("dbias", &got.dbias, &truth.dbias, &plain.dbias, 0.0, 1e-37),
    ];
    let mut used: f64 = 0.0;
    for (name, got, truth, plain, rounding, least) in tensors {
        assert_eq!(got.len(), truth.len());
        let size = norm(truth.iter().copied());
        let allowed =
            4.0 * distance(plain, truth) + (1e-6 + rounding) * size + least * (truth.len() as f64).sqrt();
        let error = distance(got, truth);
        assert!(error <= allowed, "{what}, {name}: off by {error:e} of {size:e}, allowed {allowed:e}");
        used = used.max(error / allowed);
    }
    used
}

fn denominators() -> [Reduction; 4] {
    [
        Reduction::Sum,
        Reduction::Mean(Denominator::Valid),
        Reduction::Mean(Denominator::Kept),
        Reduction::Mean(Denominator::Given(7.5)),
    ]
}

pub(crate) fn small() -> LinearOptions {
    // A logits row of 333 takes 1,332 bytes.
    LinearOptions { budget: Budget(20 * 4 * RECORD_WORDS + 1200), ..LinearOptions::default() }
}

pub(crate) fn all_options() -> Vec<LinearOptions> {
    let default = LinearOptions::default();
    vec![
        default,
        LinearOptions { chunk_rows: Some(1), ..default },
        LinearOptions { chunk_rows: Some(7), ..default },
        LinearOptions { chunk_rows: Some(1000), chunk_vocab: Some(100), ..default },
        small(),
    ]
}

fn sweep<E: Element, G: Element>(gpu: &Gpu) {
    let mut used: f64 = 0.0;
    let gated = AnyToken::NAMES.iter().map(|name| format!("thresholded:inner={name},lo=0.002"));
    let plain = AnyToken::NAMES.iter().chain(AnyRow::NAMES).map(|name| (*name).to_owned());
    let sums = AnyRow::NAMES.iter().map(|name| format!("nll + {name} + z_loss"));
    let specs: Vec<String> = gated.chain(plain).chain(sums).collect();
    let options = all_options();
    for (i, spec) in specs.iter().enumerate() {
        let objective = Composite::parse(spec).unwrap();
        for extras in [false, true] {
            let case = Case::<E>::new(20, 19, 333, extras);
            let reduction = denominators()[(i + usize::from(extras)) % 4];
            let options = &options[(i + 2 * usize::from(extras)) % 5];
            let (truth, totals) = reference::<f64, _, _>(&objective, reduction, &case);
            let (plain, _) = reference::<f32, _, _>(&objective, reduction, &case);
            let (got, counts) = evaluate::<E, G, _>(gpu, &objective, reduction, &case, options).unwrap();
            let what = format!("{spec} {} to {} {reduction:?} {options:?}", E::DTYPE, G::DTYPE);
            used = used.max(check(&what, &got, &truth, &plain, G::DTYPE));
            let counted = |t: &Totals| (t.valid, t.kept, t.ignored, t.live, t.denominator);
            assert_eq!(counted(&counts), counted(&totals), "{what}");
        }
    }
    say(&format!("linear {} to {}: {:.0} % of what is allowed", E::DTYPE, G::DTYPE, 100.0 * used));
}

#[test]
fn every_objective_in_f32() {
    gpus().iter().for_each(sweep::<f32, f32>);
}

#[test]
fn every_objective_in_16_bits() {
    let Some(gpu) = baseline() else { return };
    sweep::<bf16, bf16>(gpu);
    sweep::<f16, f16>(gpu);
    sweep::<bf16, f32>(gpu);
}

#[test]
fn every_denominator_in_every_cut() {
    let Some(gpu) = baseline() else { return };
    let objective = Objective::parse("thresholded:inner=power,alpha=0.5,lo=0.003").unwrap();
    for extras in [false, true] {
        let case = Case::<bf16>::new(20, 19, 333, extras);
        for reduction in denominators() {
            let (truth, _) = reference::<f64, _, _>(&objective, reduction, &case);
            let (plain, _) = reference::<f32, _, _>(&objective, reduction, &case);
            for options in all_options() {
                let (got, _) = evaluate::<_, f32, _>(gpu, &objective, reduction, &case, &options).unwrap();
                check(&format!("{reduction:?} {options:?}"), &got, &truth, &plain, Dtype::F32);
            }
        }
    }
}

#[test]
fn shapes_that_divide_nothing() {
    let Some(gpu) = baseline() else { return };
    for (rows, dim, vocab) in [(1, 1, 2), (3, 5, 7), (65, 64, 129), (70, 130, 1030), (129, 3, 65)] {
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(61), ..Default::default() }]
        {
            let case = Case::<f16>::new(rows, dim, vocab, true);
            let reduction = Reduction::default();
            let (truth, _) = reference::<f64, _, _>(&Nll, reduction, &case);
            let (plain, _) = reference::<f32, _, _>(&Nll, reduction, &case);
            let (got, _) = evaluate::<_, f16, _>(gpu, &Nll, reduction, &case, &options).unwrap();
            check(&format!("{rows} x {dim} x {vocab}"), &got, &truth, &plain, Dtype::F16);
        }
    }
}

#[test]
fn a_head_larger_than_any_binding_and_any_buffer() {
    let buffers = tokenloss_wgpu::wgpu::Limits { max_buffer_size: 1 << 20, ..low_limits() };
    for limits in [low_limits(), buffers] {
        let Some(gpu) = open(Some(Variant::Baseline), Some(limits)).map(Result::unwrap) else { return };
        // 1.5 MB of weight, 3 MB of its gradient.
        let case = Case::<bf16>::new(9, 151, 5_001, true);
        let options = LinearOptions { budget: Budget(300_000), ..LinearOptions::default() };
        let (truth, _) = reference::<f64, _, _>(&Nll, Reduction::default(), &case);
        let (plain, _) = reference::<f32, _, _>(&Nll, Reduction::default(), &case);
        let (got, _) = evaluate::<_, f32, _>(&gpu, &Nll, Reduction::default(), &case, &options).unwrap();
        check("split", &got, &truth, &plain, Dtype::F32);
        // Cuts change no bit: every sum runs over the same terms in the same order, but for dhidden.
        let whole = baseline().unwrap();
        let (same, _) = evaluate::<_, f32, _>(whole, &Nll, Reduction::default(), &case, &options).unwrap();
        assert!(same.losses == got.losses && same.dweight == got.dweight && same.dbias == got.dbias);
    }
}

#[test]
fn gradients_are_wanted_one_by_one_and_add_up() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(20, 19, 333, true);
    let (options, reduction) = (LinearOptions::default(), Reduction::default());
    let (all, _) = evaluate::<_, f32, _>(gpu, &Nll, reduction, &case, &options).unwrap();
    let run = |gradients: LinearGradients<'_, f32>| {
        gpu.evaluate_linear(&Nll, reduction, &case.linear(), &options, gradients, Outputs::default())
            .unwrap();
    };
    let same = |got: &[f32], all: &[f64]| got.iter().zip(all).all(|(got, all)| f64::from(*got) == *all);
    run(LinearGradients::default());
    let mut dhidden = vec![f32::NAN; 20 * 19];
    run(LinearGradients { dhidden: Some(&mut dhidden), ..Default::default() });
    assert!(same(&dhidden, &all.dhidden));
    let mut dbias = vec![0.0; 333];
    run(LinearGradients { dbias: Some(&mut dbias), ..Default::default() });
    assert!(same(&dbias, &all.dbias));
    let mut dweight = vec![0.0; 333 * 19];
    run(LinearGradients { dweight: Some(&mut dweight), ..Default::default() });
    assert!(same(&dweight, &all.dweight));
    // A second micro-batch adds up.
    run(LinearGradients { dweight: Some(&mut dweight), ..Default::default() });
    assert!(dweight.iter().zip(&all.dweight).all(|(twice, once)| *twice == (2.0 * once) as f32));
}

#[test]
fn results_repeat_bit_for_bit() {
    for gpu in gpus() {
        let case = Case::<bf16>::new(70, 40, 1030, true);
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(300), ..Default::default() }]
        {
            let run = || evaluate::<_, bf16, _>(gpu, &Nll, Reduction::default(), &case, &options).unwrap();
            let (first, totals) = run();
            assert!((0..3).all(|_| run() == (first.clone(), totals)));
        }
    }
}

#[test]
fn shards_merge_to_the_whole() {
    for spec in ["nll", "label_smoothing + entropy + logit_l2:lambda=0.01 + deft"] {
        shards(&Composite::parse(spec).unwrap());
    }
}

fn shards(objective: &Composite) {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(20, 19, 333, true);
    let linear = case.linear();
    let options = LinearOptions { chunk_vocab: Some(64), ..LinearOptions::default() };
    let mut whole = vec![RowSummary::nan(); 20];
    gpu.summarise_linear(&linear, &options, &mut whole).unwrap();
    let mut merged = vec![RowPart::empty(); 20];
    for columns in [0..100, 100..332, 332..333] {
        let mut parts = vec![RowPart::empty(); 20];
        gpu.parts_linear(&case.shard(columns), &options, &mut parts).unwrap();
        merged.iter_mut().zip(parts).for_each(|(merged, part)| *merged = merged.merge(part));
    }
    let mut summaries = vec![RowSummary::nan(); 20];
    summaries_of_parts(linear.batch(), &merged, &mut summaries).unwrap();
    for (row, (a, b)) in whole.iter().zip(&summaries).enumerate() {
        assert_eq!(a.stats.argmax, b.stats.argmax);
        // The merged tails are sums in another order.
        assert!(a.target.log_p.is_nan() || (a.target.log_p - b.target.log_p).abs() < 1e-5, "row {row}");
        let (a, b) = (a.stats, b.stats);
        assert_eq!(a.count, b.count);
        for (a, b) in [(a.collision, b.collision), (a.spread, b.spread), (a.energy, b.energy)] {
            assert!(a.is_nan() || (a - b).abs() <= 1e-5 * a.abs(), "row {row}: {a} {b}");
        }
    }

    let reduction = Reduction::Sum;
    let (truth, _) = reference::<f64, _, _>(objective, reduction, &case);
    let (plain, _) = reference::<f32, _, _>(objective, reduction, &case);
    let weighted = |row: usize| f64::from(linear.batch().weight(row));
    let partials: Vec<_> =
        (0..20).map(|row| objective.of_row(&summaries[row]).partials.scaled(weighted(row))).collect();
    let mut out =
        Out { losses: truth.losses.clone(), dhidden: vec![0.0; 20 * 19], dweight: vec![], dbias: vec![] };
    for columns in [0..100, 100..332, 332..333] {
        let count = columns.len();
        let (mut dhidden, mut dweight, mut dbias) =
            (vec![f32::NAN; 20 * 19], vec![0.0; count * 19], vec![0.0; count]);
        let gradients = LinearGradients {
            dhidden: Some(&mut dhidden[..]),
            dweight: Some(&mut dweight[..]),
            dbias: Some(&mut dbias[..]),
        };
        let live =
            gpu.push_back_linear(&case.shard(columns), &options, &summaries, &partials, gradients).unwrap();
        assert_eq!(
            live,
            partials.iter().zip(linear.batch().targets()).filter(|(p, t)| **t >= 0 && p.is_live()).count()
        );
        out.dhidden.iter_mut().zip(dhidden).for_each(|(sum, d)| *sum += f64::from(d));
        out.dweight.extend(dweight.into_iter().map(f64::from));
        out.dbias.extend(dbias.into_iter().map(f64::from));
    }
    check("shards", &out, &truth, &plain, Dtype::F32);
}

#[test]
fn rows_below_the_tolerance_are_left_out_within_the_bound() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(40, 19, 333, false);
    let reduction = Reduction::default();
    let objective = Objective::parse("power:alpha=1").unwrap();
    let options = LinearOptions { row_tolerance: 2e-4, ..LinearOptions::default() };
    let (exact, all) =
        evaluate::<_, f32, _>(gpu, &objective, reduction, &case, &LinearOptions::default()).unwrap();
    let (got, totals) = evaluate::<_, f32, _>(gpu, &objective, reduction, &case, &options).unwrap();
    assert!(0 < totals.live && totals.live < all.live, "{} of {} rows", totals.live, all.live);
    let most = case.weight.iter().fold(0.0f64, |most, w| most.max(f64::from(w.abs())));
    let off = got.dhidden.iter().zip(&exact.dhidden).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
    assert!(0.0 < off && off <= 2e-4 * most * 1.0001, "{off} of {}", 2e-4 * most);
}

#[test]
fn bad_rows() {
    let Some(gpu) = baseline() else { return };
    for options in [LinearOptions::default(), LinearOptions { chunk_vocab: Some(64), ..Default::default() }] {
        let mut case = Case::<f32>::new(8, 5, 130, false);
        let clean = {
            let mut targets = case.targets.clone();
            targets[3] = -100;
            let case = Case { targets, ..Case::<f32>::new(8, 5, 130, false) };
            evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &options).unwrap().0
        };
        case.hidden[3 * 5 + 2] = f32::NAN;
        let (mut dhidden, mut dweight) = (vec![0.0f32; 8 * 5], vec![0.0f32; 130 * 5]);
        let gradients =
            LinearGradients { dhidden: Some(&mut dhidden[..]), dweight: Some(&mut dweight[..]), dbias: None };
        let result = gpu.evaluate_linear(
            &Nll,
            Reduction::Sum,
            &case.linear(),
            &options,
            gradients,
            Outputs::default(),
        );
        assert_eq!(
            result.unwrap_err().to_string(),
            "logits: row 3, column 0 is NaN, expected a finite number or -inf"
        );
        assert!(dhidden[15..20].iter().all(|d| d.is_nan()));
        assert!(
            dweight.iter().zip(&clean.dweight).all(|(a, b)| f64::from(*a) == *b),
            "the other rows' gradient"
        );
        case.non_finite = NonFinite::NanRow;
        let (got, totals) = evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &options).unwrap();
        assert!(totals.loss().is_nan() && got.dweight.iter().all(|d| d.is_nan()) && totals.live == 8);
        assert_eq!(got.dhidden[..15], clean.dhidden[..15]);
    }
}

#[test]
fn masked_columns() {
    let Some(gpu) = baseline() else { return };
    let mut case = Case::<f32>::new(8, 5, 130, true);
    if let Some(bias) = &mut case.bias {
        bias[100..].fill(f32::NEG_INFINITY);
    }
    case.targets.iter_mut().filter(|t| **t >= 100).for_each(|t| *t -= 100);
    for spec in ["nll", "label_smoothing", "entropy + logit_l2", "deft + entropy_gated"] {
        let objective = Composite::parse(spec).unwrap();
        let (truth, _) = reference::<f64, _, _>(&objective, Reduction::default(), &case);
        let (plain, _) = reference::<f32, _, _>(&objective, Reduction::default(), &case);
        for chunk_vocab in [None, Some(64), Some(20)] {
            let options = LinearOptions { chunk_vocab, ..LinearOptions::default() };
            let (got, _) =
                evaluate::<_, f32, _>(gpu, &objective, Reduction::default(), &case, &options).unwrap();
            check(&format!("masked {spec}"), &got, &truth, &plain, Dtype::F32);
            assert!(got.dbias[100..].iter().all(|d| *d == 0.0));
        }
    }
}

/// Maps of every kind, with numbers of the rows' own and masks, in every cut and in shards.
#[test]
fn logits_are_mapped_where_they_are_read() {
    let rows = 20;
    let scales: &[f32] = Box::leak((0..rows).map(|row| 0.25 + 0.125 * row as f32).collect());
    let margins: &[f32] = Box::leak((0..rows).map(|row| 0.5 * (row % 3) as f32 - 0.25).collect());
    let case = Case::<f32>::new(rows, 19, 333, true);
    let words = 333usize.div_ceil(32);
    let mut bits: Vec<u32> = (0..rows * words).map(|i| 0x9e37_79b9u32.wrapping_mul(i as u32 | 1)).collect();
    for (row, target) in case.targets.iter().enumerate().filter(|(_, target)| **target >= 0) {
        bits[row * words + *target as usize / 32] |= 1 << (target % 32);
    }
    let bits: &[u32] = Box::leak(bits.into_boxed_slice());
    let shared: &[u32] = Box::leak((0..words).map(|word| !(word as u32)).collect());
    let allowed = |row: usize| {
        let target = case.targets[row];
        target < 0 || shared[target as usize / 32] >> (target % 32) & 1 == 1
    };
    let mut shared_case = Case::<f32>::new(rows, 19, 333, true);
    (0..rows).filter(|row| !allowed(*row)).for_each(|row| shared_case.targets[row] = -100);
    let maps = [
        LogitMap::default().with_scale(0.5).unwrap(),
        LogitMap::softcap(3.0).unwrap().with_margins(margins).unwrap(),
        LogitMap::stable_max().with_scales(scales).unwrap().with_margin(0.75).unwrap(),
        LogitMap::default().with_scales(scales).unwrap().with_mask(ClassMask::per_row(bits)),
        LogitMap::softcap(2.0).unwrap().with_mask(ClassMask::shared(shared)),
    ];
    for gpu in gpus() {
        for (i, map) in maps.into_iter().enumerate() {
            let case = Case { map: Some(map), ..Case::<f32>::new(rows, 19, 333, true) };
            let case = if i == 4 { Case { targets: shared_case.targets.clone(), ..case } } else { case };
            for spec in ["nll", "label_smoothing + entropy + logit_l2:lambda=0.01"] {
                let objective = Composite::parse(spec).unwrap();
                let (truth, totals) = reference::<f64, _, _>(&objective, Reduction::default(), &case);
                let (plain, _) = reference::<f32, _, _>(&objective, Reduction::default(), &case);
                for options in all_options() {
                    let (got, counts) =
                        evaluate::<_, f32, _>(gpu, &objective, Reduction::default(), &case, &options)
                            .unwrap();
                    check(&format!("map {i} {spec} {options:?}"), &got, &truth, &plain, Dtype::F32);
                    assert_eq!((counts.valid, counts.live), (totals.valid, totals.live));
                }
            }
        }
    }
}

#[test]
fn what_a_call_takes_is_within_its_budget() {
    let Some(gpu) = baseline() else { return };
    let request = LinearRequest {
        rows: 1024,
        dim: 576,
        columns: 49_152,
        dtype: Dtype::Bf16,
        reduction: Reduction::default(),
        dhidden: true,
        dweight: true,
        dbias: true,
        records: false,
        totals: false,
        options: LinearOptions::default(),
    };
    for budget in [200_000, 1 << 20, 16 << 20, 64 << 20, 100 << 20] {
        let options = LinearOptions { budget: Budget(budget), ..LinearOptions::default() };
        let needs = gpu.kernels().linear_requirements(&LinearRequest { options, ..request.clone() }).unwrap();
        assert!(needs.scratch_bytes <= budget as u64, "{needs:?}");
        // A budget that is used: half of it, unless all rows fit.
        assert!(needs.scratch_bytes * 2 > budget as u64 || needs.chunk_rows == 1024, "{needs:?}");
    }
    let least = LinearOptions { budget: Budget(1), ..LinearOptions::default() };
    let error =
        gpu.kernels().linear_requirements(&LinearRequest { options: least, ..request.clone() }).unwrap_err();
    let GpuError::Core(Error::Budget { needed, budget: 1 }) = error else { panic!("{error}") };
    let with = |bytes: usize| {
        let options = LinearOptions { budget: Budget(bytes), ..LinearOptions::default() };
        gpu.kernels().linear_requirements(&LinearRequest { options, ..request.clone() })
    };
    assert!(with(needed).unwrap().scratch_bytes <= needed as u64);
    assert!(with(needed - 1).is_err());
}

#[test]
fn bad_input() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(8, 5, 130, false);
    let message = |options: LinearOptions, gradients: LinearGradients<'_, f32>| {
        let reduction = Reduction::default();
        gpu.evaluate_linear(&Nll, reduction, &case.linear(), &options, gradients, Outputs::default())
            .unwrap_err()
            .to_string()
    };
    let none = LinearGradients::default;
    let default = LinearOptions::default();
    assert_eq!(
        message(LinearOptions { chunk_rows: Some(0), ..default }, none()),
        "chunk_rows: expected at least 1, got 0"
    );
    assert_eq!(
        message(LinearOptions { row_tolerance: -1.0, ..default }, none()),
        "row_tolerance: expected a finite number of at least 0, got -1"
    );
    assert_eq!(
        message(LinearOptions { block_tolerance: 0.1, ..default }, none()),
        "block_tolerance: not supported on the GPU"
    );
    let mut short = vec![0.0; 7];
    assert_eq!(
        message(default, LinearGradients { dweight: Some(&mut short), ..none() }),
        "dweight: expected 650 values, got 7"
    );
    let partials = vec![RowPartials::default(); 3];
    let summaries = vec![RowSummary::nan(); 8];
    let error = gpu.push_back_linear(&case.linear(), &default, &summaries, &partials, none());
    assert_eq!(error.unwrap_err().to_string(), "partials: expected 8 values, got 3");
    let shard = case.shard(0..60);
    let error = gpu.evaluate_linear(&Nll, Reduction::Sum, &shard, &default, none(), Outputs::default());
    assert_eq!(
        error.unwrap_err().to_string(),
        "columns: 0..60 is empty, or not what a vocab of 130 asks for"
    );
}

/// The first rows of real hidden states and a slice of a real head, where they are.
#[test]
fn real_rows_keep_their_gradient() {
    let Some(gpu) = baseline() else { return };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let load = |name: &str| std::fs::read(folder.join(name));
    let (Ok(rows), Ok(head)) =
        (load("smollm2-135m-gsm8k.safetensors"), load("smollm2-135m-lm_head.safetensors"))
    else {
        return say("linear: real rows not tested, no shared/data");
    };
    const ROWS: usize = 64;
    const DIM: usize = 576;
    const COLUMNS: usize = 1300;
    let halves = |bytes: &[u8], name: &str, count: usize| -> Vec<bf16> {
        let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(2).take(count).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect()
    };
    let mut case = Case::<bf16>::new(ROWS, DIM, COLUMNS, false);
    case.hidden = halves(&rows, "hidden", ROWS * DIM);
    case.weight = halves(&head, "lm_head", COLUMNS * DIM);
    let (truth, _) = reference::<f64, _, _>(&Nll, Reduction::default(), &case);
    let (got, _) =
        evaluate::<_, f32, _>(gpu, &Nll, Reduction::default(), &case, &LinearOptions::default()).unwrap();
    let off = |got: &[f64], truth: &[f64]| distance(got, truth) / norm(truth.iter().copied());
    let (dhidden, dweight) = (off(&got.dhidden, &truth.dhidden), off(&got.dweight, &truth.dweight));
    say(&format!("linear: real rows, dhidden off by {dhidden:.1e}, dweight by {dweight:.1e}"));
    assert!(dhidden <= 1e-5 && dweight <= 1e-5);
}

/// What `encode_linear` says of a job once it is changed.
fn refused<'a>(
    gpu: &Gpu,
    job: &tokenloss_wgpu::LinearJob<'a>,
    change: impl Fn(&mut tokenloss_wgpu::LinearJob<'a>),
) -> Result<(), String> {
    let mut job = job.clone();
    change(&mut job);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    gpu.kernels().encode_linear(&mut encoder, &job).map_err(|error| error.to_string())
}

/// Bindings of a caller's own that do not fit: nothing is recorded.
#[test]
fn bindings_that_share_bytes_or_are_too_small() {
    use tokenloss_wgpu::{LinearBuffers, LinearData, LinearJob, wgpu};
    let Some(gpu) = baseline() else { return };
    let buffer = |words: u64| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * words,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let part = |buffer, first: u64, words: u64| wgpu::BufferBinding {
        buffer,
        offset: 4 * first,
        size: wgpu::BufferSize::new(4 * words),
    };
    // 8 rows, dim 5, vocab 130: hidden 40 words, weight 650.
    let (pool, weight, out) = (buffer(4096), buffer(650), buffer(650));
    let data = LinearData {
        rows: 8,
        dim: 5,
        vocab: 130,
        columns: 0..130,
        dtype: Dtype::F32,
        hidden: part(&pool, 0, 40),
        weight: vec![part(&weight, 0, 650)],
        bias: None,
        targets: part(&pool, 64, 8),
        map: None,
    };
    let job = LinearJob {
        data,
        objective: &Nll,
        reduction: Reduction::default(),
        weights: None,
        gradients: LinearBuffers::default(),
        records: None,
        totals: None,
        options: LinearOptions::default(),
        non_finite: NonFinite::Error,
    };
    assert_eq!(refused(gpu, &job, |_| {}), Ok(()));
    let whole_dweight = LinearBuffers { dweight: Some(vec![part(&out, 0, 650)]), ..Default::default() };
    assert_eq!(refused(gpu, &job, |job| job.gradients = whole_dweight.clone()), Ok(()));
    let over_hidden =
        LinearBuffers { dhidden: Some((part(&pool, 39, 40), Dtype::F32)), ..Default::default() };
    assert_eq!(
        refused(gpu, &job, |job| job.gradients = over_hidden.clone()),
        Err("dhidden and hidden share bytes of a buffer".to_owned())
    );
    let over_weight = LinearBuffers { dweight: Some(vec![part(&weight, 0, 650)]), ..Default::default() };
    assert_eq!(
        refused(gpu, &job, |job| job.gradients = over_weight.clone()),
        Err("dweight and weight share bytes of a buffer".to_owned())
    );
    let both = LinearBuffers {
        dhidden: Some((part(&pool, 200, 40), Dtype::F32)),
        dbias: Some(part(&pool, 239, 130)),
        ..Default::default()
    };
    assert_eq!(
        refused(gpu, &job, |job| job.gradients = both.clone()),
        Err("dhidden and dbias share bytes of a buffer".to_owned())
    );
    assert_eq!(
        refused(gpu, &job, |job| job.data.weight = vec![part(&weight, 0, 649)]),
        Err("weight: expected a binding of at least 2600 bytes, got 2580".to_owned())
    );
    assert_eq!(
        refused(gpu, &job, |job| job.data.bias = Some(part(&pool, 300, 129))),
        Err("bias: expected a binding of at least 520 bytes, got 516".to_owned())
    );
    assert_eq!(
        refused(gpu, &job, |job| job.data.dim = 6),
        Err("hidden: expected a binding of at least 192 bytes, got 160".to_owned())
    );
    assert_eq!(
        refused(gpu, &job, |job| job.data.dim = 0),
        Err(format!("dim: expected 1 to {} elements of a hidden state, got 0", i32::MAX))
    );
    assert_eq!(
        refused(gpu, &job, |job| job.options.budget = Budget(10)).map_err(|error| error
            .split(',')
            .next()
            .unwrap()
            .to_owned()),
        Err("budget: 10 bytes hold not even one row and a few columns".to_owned())
    );
}

/// A weight in pieces, none of which begins at an aligned offset.
#[test]
fn a_weight_in_pieces_is_that_weight() {
    use tokenloss_wgpu::{LinearBuffers, LinearData, LinearJob, shaders::TOTALS_WORDS, wgpu};
    use wgpu::util::DeviceExt;
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(8, 5, 130, false);
    let (one, counts) =
        evaluate::<_, f32, _>(gpu, &Nll, Reduction::Sum, &case, &LinearOptions::default()).unwrap();
    let buffer = |words: &[u32]| {
        gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(words),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        })
    };
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    // One pool: 3 words, hidden, 70 rows of the weight, and elsewhere the other 60.
    let pool = [vec![0; 3], bits(&case.hidden), bits(&case.weight[..350])].concat();
    let (pool, rest) = (buffer(&pool), buffer(&[vec![0; 7], bits(&case.weight[350..])].concat()));
    let targets: Vec<u32> = case.targets.iter().map(|t| *t as u32).collect();
    let targets = buffer(&targets);
    let (first, second) = (buffer(&[0; 5 * 31 + 1]), buffer(&[0; 5 * 99]));
    let totals = buffer(&[7; TOTALS_WORDS + 2]);
    let part = |buffer, at: u64, words: u64| wgpu::BufferBinding {
        buffer,
        offset: 4 * at,
        size: wgpu::BufferSize::new(4 * words),
    };
    let job = LinearJob {
        data: LinearData {
            rows: 8,
            dim: 5,
            vocab: 130,
            columns: 0..130,
            dtype: Dtype::F32,
            hidden: part(&pool, 3, 40),
            weight: vec![part(&pool, 43, 350), part(&rest, 7, 300)],
            bias: None,
            targets: part(&targets, 0, 8),
            map: None,
        },
        objective: &Nll,
        reduction: Reduction::Sum,
        weights: None,
        // Another cut than the weight's.
        gradients: LinearBuffers {
            dweight: Some(vec![part(&first, 1, 155), part(&second, 0, 495)]),
            ..Default::default()
        },
        records: None,
        totals: Some(part(&totals, 1, TOTALS_WORDS as u64)),
        options: LinearOptions::default(),
        non_finite: NonFinite::Error,
    };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    gpu.kernels().encode_linear(&mut encoder, &job).unwrap();
    gpu.queue().submit([encoder.finish()]);
    let read = [&first, &second].map(|buffer| crate::run::read(gpu, buffer));
    let got = read[0][1..].iter().chain(&read[1]).map(|word| f64::from(f32::from_bits(*word)));
    assert!(got.eq(one.dweight.iter().copied()));
    assert_eq!(read[0][0], 0, "what lies before the piece");
    let words = crate::run::read(gpu, &totals);
    let count = |n: usize| n as u32;
    assert_eq!(words[3..6], [counts.valid, counts.kept, counts.ignored].map(count));
    assert_eq!((words[0], words[9], words[10]), (7, count(counts.live), 7), "live, and what lies around");
    // 8 losses added in another order.
    let sum: f64 = one.losses.iter().sum();
    assert!((f64::from(f32::from_bits(words[1])) - sum).abs() <= 8.0 * 2f64.powi(-24) * sum);
}
