//! Listed columns in a caller's own buffers.

use crate::data::{Matrix, Random};
use crate::linear::{Case, all_options};
use crate::machine::{baseline, gpus, low_limits, open};
use crate::run::{Written, buffer, check_written, elements, guarded, part, read, words_of};
use tokenloss_core::columns::{
    self, ColumnBackend, ColumnLoss, ColumnPartials, Columns, Judgement, Sides, SubsetMass, gather_linear,
};
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{
    Batch, Budget, Dtype, Element, IGNORE_INDEX, LinearGradients, LinearOptions, Logits, NonFinite,
    Reduction, RowSummary, Segments, Shape,
};
use tokenloss_wgpu::shaders::{RECORD_WORDS, STATUS_NO_MASS};
use tokenloss_wgpu::{
    ColumnBindings, Data, Gpu, GpuError, Gradient, LinearBuffers, LinearData, LinearPushBackColumnsJob,
    LinearRestsJob, LinearTopKJob, PushBackJob, PutJob, Record, SummariseJob, TakeJob, TopKJob, Variant,
    wgpu,
};

/// Lists of many lengths, in no order.
struct Lists {
    offsets: Vec<usize>,
    ids: Vec<i32>,
}

impl Lists {
    fn new(rows: usize, vocab: usize, most: usize) -> Self {
        let mut random = Random((rows * 13 + vocab) as u64 | 1);
        let (mut offsets, mut ids) = (vec![0], vec![]);
        for row in 0..rows {
            // Neighbours share a word.
            let (start, step) = (random.below(vocab), [1, 7919][row % 2]);
            let mut listed = vec![];
            for id in (0..1 + row * 7 % most).map(|j| ((start + j * step) % vocab) as i32) {
                if !listed.contains(&id) {
                    listed.push(id);
                }
            }
            ids.extend(listed);
            offsets.push(ids.len());
        }
        Self { offsets, ids }
    }

    fn columns(&self, shape: Shape) -> Columns<'_> {
        let segments = Segments::new(&self.offsets, self.ids.len()).unwrap();
        Columns::of_segments(shape, segments, &self.ids).unwrap()
    }

    fn words(&self) -> [Vec<u32>; 2] {
        [self.offsets.iter().map(|at| *at as u32).collect(), self.ids.iter().map(|id| *id as u32).collect()]
    }
}

/// What a row's words hold, as a storage type of the host's.
fn stored<E: Element>(values: &[f32]) -> Vec<E> {
    values.iter().map(|z| E::from_f32(*z)).collect()
}

fn bits(values: &[f64]) -> Vec<u32> {
    values.iter().map(|d| (*d as f32).to_bits()).collect()
}

/// Takes and puts on the device, and demands what the host makes of it, bit by bit, and that nothing else is written.
fn take_and_put<E: Element>(gpu: &Gpu, matrix: &Matrix, stride: usize, [at, of_lists]: [usize; 2]) {
    let (rows, vocab, dtype) = (matrix.rows(), matrix.vocab, matrix.dtype);
    let lists = Lists::new(rows, vocab, 40);
    let shape = Shape::new(rows, vocab).unwrap();
    let columns = lists.columns(shape);
    let batch = Batch::new(shape, &matrix.targets).unwrap();
    let entries = columns.entries();
    let logits = words_of(matrix, stride);
    let targets: Vec<u32> = matrix.targets.iter().map(|t| *t as u32).collect();
    let [offsets, ids] = lists.words();
    let before = [
        guarded(at, &logits),
        guarded(of_lists, &targets),
        guarded(of_lists, &offsets),
        guarded(of_lists, &ids),
        guarded(of_lists, &vec![7; entries]),
    ];
    let buffers = before.each_ref().map(|words| buffer(gpu, words));
    let data = Data {
        shape: shape.with_stride(stride).unwrap(),
        dtype,
        logits: part(&buffers[0], at, logits.len()),
        targets: part(&buffers[1], of_lists, rows),
        map: None,
    };
    let columns_on_gpu = ColumnBindings {
        offsets: part(&buffers[2], of_lists, rows + 1),
        ids: part(&buffers[3], of_lists, entries),
        entries,
    };
    let gathered = part(&buffers[4], of_lists, entries);
    let take =
        TakeJob { data: data.clone(), columns: columns_on_gpu.clone(), gathered: Some(gathered.clone()) };
    let run = |record: &dyn Fn(&mut wgpu::CommandEncoder) -> Result<(), GpuError>| {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        record(&mut encoder).unwrap();
        gpu.queue().submit([encoder.finish()]);
        buffers.each_ref().map(|buffer| read(gpu, buffer))
    };
    let taken = run(&|encoder| gpu.kernels().encode_take(encoder, &take));
    let mut written = vec![Written::matrix(0, at, matrix, stride), Written::words(4, of_lists, entries)];
    check_written(&before, &taken, &written);
    let (mut on_host, mut want) = (stored::<E>(&matrix.logits), vec![0.0; entries]);
    columns::take(&batch, &columns, &mut on_host, &mut want).unwrap();
    let same = |words: &[u32], on_host: &[E]| {
        let got = elements(&words[at..], matrix, stride);
        got.iter().zip(on_host).all(|(a, b)| a.to_bits() == b.to_f32().to_bits())
    };
    assert!(same(&taken[0], &on_host), "{dtype} {rows} x {vocab}: masks");
    for (row, target) in matrix.targets.iter().enumerate() {
        for entry in columns.range(row) {
            let got = f32::from_bits(taken[4][of_lists + entry]);
            let same = if *target == IGNORE_INDEX { got.is_nan() } else { got == want[entry] as f32 };
            assert!(same, "{dtype} {rows} x {vocab}: row {row}, entry {entry}: {got}, {}", want[entry]);
        }
    }
    // Back again.
    let put = PutJob { data, columns: columns_on_gpu, values: gathered };
    let back = run(&|encoder| gpu.kernels().encode_put(encoder, &put));
    assert!(back[0] == before[0], "{dtype} {rows} x {vocab}: put back");
    written.truncate(1);
    check_written(&taken, &back, &written);
}

#[test]
fn what_is_taken_is_put_back_bit_by_bit() {
    for gpu in gpus() {
        for (vocab, stride) in [(2, 2), (3, 4), (37, 38), (64, 70), (1001, 1002)] {
            for place in [[0, 0], [1, 3], [64, 5]] {
                take_and_put::<f32>(gpu, &Matrix::mixture(Dtype::F32, vocab, 3), stride, place);
                take_and_put::<f16>(gpu, &Matrix::mixture(Dtype::F16, vocab, 4), stride, place);
                take_and_put::<bf16>(gpu, &Matrix::mixture(Dtype::Bf16, vocab, 5), stride, place);
            }
        }
    }
}

#[test]
fn lists_are_found_in_every_cut() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    // 4.8 MB of logits in bindings of 1 MiB, and more rows than groups in a line.
    take_and_put::<f32>(&gpu, &Matrix::uniform(Dtype::F32, 4_801, 250, 7), 250, [5, 3]);
    take_and_put::<bf16>(&gpu, &Matrix::uniform(Dtype::Bf16, 4_801, 250, 7), 250, [5, 3]);
    top_of_lists(&gpu, &Matrix::uniform(Dtype::F32, 4_801, 250, 7), 250, [5, 3]);
}

/// Values that are no numbers, and such as a storage type rounds.
#[test]
fn values_are_rounded_as_the_host_rounds_them() {
    let Some(gpu) = baseline() else { return };
    let values = [0.1f32, -1e-9, 65_519.0, 65_520.0, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0];
    fn check<E: Element>(gpu: &Gpu, values: &[f32]) {
        let count = values.len();
        let mut matrix = Matrix::new(E::DTYPE, count);
        matrix.push(0, |_| 0.5);
        let words = words_of(&matrix, count + 1);
        let ids: Vec<u32> = (0..count as u32).rev().collect();
        let reversed: Vec<u32> = values.iter().rev().map(|v| v.to_bits()).collect();
        let [logits, targets, offsets, ids, values_on_gpu] =
            [words, vec![0], vec![0, count as u32], ids, reversed].map(|words| buffer(gpu, &words));
        let job = PutJob {
            data: Data {
                shape: Shape::new(1, count).unwrap().with_stride(count + 1).unwrap(),
                dtype: E::DTYPE,
                logits: part(&logits, 0, logits.size() as usize / 4),
                targets: part(&targets, 0, 1),
                map: None,
            },
            columns: ColumnBindings {
                offsets: part(&offsets, 0, 2),
                ids: part(&ids, 0, count),
                entries: count,
            },
            values: part(&values_on_gpu, 0, count),
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        gpu.kernels().encode_put(&mut encoder, &job).unwrap();
        gpu.queue().submit([encoder.finish()]);
        let got = elements(&read(gpu, &logits), &matrix, count + 1);
        for (got, value) in got.iter().zip(values) {
            let want = E::from_f32(*value).to_f32();
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            assert!(same, "{}: {value} became {got}, expected {want}", E::DTYPE);
        }
    }
    check::<f32>(gpu, &values);
    check::<f16>(gpu, &values);
    check::<bf16>(gpu, &values);
}

/// All moves in one encoder but for the judge's, which is the host's: the bits of a call with host slices.
#[test]
fn moves_of_a_caller_are_those_of_a_call() {
    for gpu in gpus() {
        let matrix = Matrix::mixture(Dtype::F32, 333, 9);
        let (rows, vocab) = (matrix.rows(), matrix.vocab);
        let shape = Shape::new(rows, vocab).unwrap();
        let batch = Batch::new(shape, &matrix.targets).unwrap();
        let ids: Vec<i32> =
            (0..rows).flat_map(|row| [row * 5 % vocab, (row * 5 + 1) % vocab]).map(|j| j as i32).collect();
        let columns = Columns::new(shape, 2, &ids).unwrap();
        let (objective, reduction) = (&SubsetMass, Reduction::default());
        let loss = ColumnLoss { objective, reduction, columns: &columns, sides: Sides::default() };
        let mut want = matrix.logits.clone();
        let mut want_losses = vec![0.0; rows];
        loss.evaluate(gpu, &batch, Logits::InPlace(&mut want), Some(&mut want_losses)).unwrap();

        // As the call lays rows out, so that sums are added in the same order.
        let stride = 336;
        let shape = shape.with_stride(stride).unwrap();
        let offsets = (0..=rows as u32).map(|row| 2 * row).collect();
        let on_gpu = [
            words_of(&matrix, stride),
            matrix.targets.iter().map(|t| *t as u32).collect(),
            offsets,
            ids.iter().map(|id| *id as u32).collect(),
            vec![0; 2 * rows],
            vec![0; RECORD_WORDS * rows],
        ];
        let [logits, targets, offsets, ids, gathered, records] = on_gpu.map(|words| buffer(gpu, &words));
        let data = Data {
            shape,
            dtype: Dtype::F32,
            logits: part(&logits, 0, rows * stride),
            targets: part(&targets, 0, rows),
            map: None,
        };
        let listed = ColumnBindings {
            offsets: part(&offsets, 0, rows + 1),
            ids: part(&ids, 0, 2 * rows),
            entries: 2 * rows,
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let take = TakeJob {
            data: data.clone(),
            columns: listed.clone(),
            gathered: Some(part(&gathered, 0, 2 * rows)),
        };
        gpu.kernels().encode_take(&mut encoder, &take).unwrap();
        let summarise = SummariseJob { data: data.clone(), records: part(&records, 0, RECORD_WORDS * rows) };
        gpu.kernels().encode_summarise(&mut encoder, &summarise).unwrap();
        gpu.queue().submit([encoder.finish()]);

        let of_records = read(gpu, &records);
        let mut judged: Vec<_> =
            of_records.as_chunks::<RECORD_WORDS>().0.iter().map(Record::from_words).collect();
        let of_columns: Vec<_> = read(gpu, &gathered).iter().map(|z| f64::from(f32::from_bits(*z))).collect();
        // In f64, as the call has it.
        let lse = |record: &Record| match record.status {
            0 => f64::from(record.max) + f64::from(record.tail).ln_1p(),
            _ => f64::NEG_INFINITY,
        };
        let rests: Vec<_> = judged.iter().map(lse).collect();
        let (mut losses, mut d_rests, mut d_gathered) =
            (vec![0.0; rows], vec![0.0; rows], vec![0.0; 2 * rows]);
        let into = Judgement { losses: &mut losses, d_rests: &mut d_rests, d_gathered: &mut d_gathered };
        loss.judge(&batch, &of_columns, &rests, into).unwrap();
        for (record, d_rest) in judged.iter_mut().zip(&d_rests) {
            // Where all columns with mass are listed, there is no rest to be pushed back.
            if record.status == STATUS_NO_MASS {
                (record.status, record.tail) = (0, 0.0);
            }
            record.d_lse = *d_rest as f32;
        }
        let judged: Vec<_> = judged.iter().flat_map(Record::to_words).collect();
        let [records, d_gathered] = [judged, bits(&d_gathered)].map(|words| buffer(gpu, &words));
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let push_back = PushBackJob {
            data: data.clone(),
            records: part(&records, 0, RECORD_WORDS * rows),
            gradient: Gradient::InPlace,
        };
        gpu.kernels().encode_push_back(&mut encoder, &push_back).unwrap();
        let put = PutJob { data, columns: listed, values: part(&d_gathered, 0, 2 * rows) };
        gpu.kernels().encode_put(&mut encoder, &put).unwrap();
        gpu.queue().submit([encoder.finish()]);
        let got = read(gpu, &logits);
        for (row, (got, want)) in got.chunks(stride).zip(want.chunks(vocab)).enumerate() {
            let same = got
                .iter()
                .zip(want)
                .all(|(a, b)| *a == b.to_bits() || (f32::from_bits(*a) == 0.0 && *b == 0.0));
            assert!(same, "row {row}");
            assert!(losses[row] as f32 == want_losses[row], "row {row}");
        }
    }
}

/// The greatest of each row, of as many as its list holds: the first of all that the host is given.
fn top_of_lists(gpu: &Gpu, matrix: &Matrix, stride: usize, [at, of_lists]: [usize; 2]) {
    let (rows, vocab, dtype) = (matrix.rows(), matrix.vocab, matrix.dtype);
    let lengths: Vec<usize> = (0..rows).map(|row| row * 7 % 41).collect();
    let offsets: Vec<u32> = std::iter::once(0)
        .chain(lengths.iter().scan(0, |sum, length| {
            *sum += *length as u32;
            Some(*sum)
        }))
        .collect();
    let entries = offsets[rows] as usize;
    let logits = words_of(matrix, stride);
    let targets = matrix.targets.iter().map(|t| *t as u32).collect::<Vec<_>>();
    let before = [
        guarded(at, &logits),
        guarded(of_lists, &targets),
        guarded(of_lists, &offsets),
        guarded(of_lists, &vec![7; entries]),
        guarded(of_lists, &vec![7; entries]),
        guarded(of_lists, &vec![7; rows * RECORD_WORDS]),
    ];
    let once = || {
        let buffers = before.each_ref().map(|words| buffer(gpu, words));
        let job = TopKJob {
            data: Data {
                shape: Shape::new(rows, vocab).unwrap().with_stride(stride).unwrap(),
                dtype,
                logits: part(&buffers[0], at, logits.len()),
                targets: part(&buffers[1], of_lists, rows),
                map: None,
            },
            columns: ColumnBindings {
                offsets: part(&buffers[2], of_lists, rows + 1),
                ids: part(&buffers[3], of_lists, entries),
                entries,
            },
            top: part(&buffers[4], of_lists, entries),
            records: part(&buffers[5], of_lists, rows * RECORD_WORDS),
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        gpu.kernels().encode_top_k(&mut encoder, &job).unwrap();
        gpu.queue().submit([encoder.finish()]);
        buffers.each_ref().map(|buffer| read(gpu, buffer))
    };
    let after = once();
    assert!(after == once(), "two runs differ");
    let statuses = (0..rows).map(|row| Written::words(5, of_lists + row * RECORD_WORDS + 5, 1));
    let lists = [3, 4].map(|number| Written::words(number, of_lists, entries));
    check_written(&before, &after, &statuses.chain(lists).collect::<Vec<_>>());
    for row in 0..rows {
        let z = matrix.row(row);
        let (mut order, mut bad): (Vec<usize>, _) =
            ((0..vocab).filter(|j| z[*j] != f32::NEG_INFINITY).collect(), 0);
        if matrix.targets[row] == IGNORE_INDEX {
            order.clear();
        } else if lengths[row] > 0 {
            bad = z
                .iter()
                .position(|z| z.is_nan() || *z == f32::INFINITY)
                .map_or(0, |column| column as u32 + 1);
        }
        assert_eq!(after[5][of_lists + row * RECORD_WORDS + 5], bad, "{dtype} row {row}: status");
        if bad != 0 || lengths[row] == 0 {
            order.clear();
        }
        order.sort_by(|&a, &b| z[b].partial_cmp(&z[a]).unwrap().then(a.cmp(&b)));
        for i in 0..lengths[row] {
            let entry = of_lists + offsets[row] as usize + i;
            let (id, value) = (after[3][entry] as i32, f32::from_bits(after[4][entry]));
            let what = format!("{dtype} {rows} x {vocab}, row {row}, place {i}");
            match order.get(i) {
                Some(&column) => {
                    assert_eq!((id, value.to_bits()), (column as i32, z[column].to_bits()), "{what}");
                }
                None => {
                    assert_eq!(id, IGNORE_INDEX, "{what}");
                    let is_padding = if bad == 0 { value == f32::NEG_INFINITY } else { value.is_nan() };
                    assert!(is_padding, "{what}: {value}");
                }
            }
        }
    }
}

#[test]
fn the_greatest_of_each_row_as_many_as_its_list_holds() {
    for gpu in gpus() {
        for (vocab, stride) in [(2, 2), (3, 4), (37, 38), (64, 70), (1001, 1002), (5000, 5000)] {
            for (dtype, place) in Dtype::ALL.into_iter().zip([[0, 0], [1, 3], [64, 5]]) {
                let mut matrix = Matrix::mixture(dtype, vocab, 3);
                let mut random = Random(11);
                matrix.push(0, |_| f32::from(random.below(5) as u8));
                matrix.push(0, |j| if j == vocab / 2 { f32::NAN } else { 1.0 });
                matrix.push(0, |j| if j >= vocab / 2 { f32::INFINITY } else { j as f32 });
                top_of_lists(gpu, &matrix, stride, place);
            }
        }
    }
}

/// A linear form's buffers.
struct OnGpu {
    hidden: wgpu::Buffer,
    weight: wgpu::Buffer,
    bias: wgpu::Buffer,
    targets: wgpu::Buffer,
    offsets: wgpu::Buffer,
    ids: wgpu::Buffer,
}

impl OnGpu {
    fn new(gpu: &Gpu, case: &Case<f32>, offsets: &[u32], ids: &[i32]) -> Self {
        let words = |values: &[f32]| buffer(gpu, &values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        let integers = |values: &[i32]| buffer(gpu, &values.iter().map(|v| *v as u32).collect::<Vec<_>>());
        Self {
            hidden: words(&case.hidden),
            weight: words(&case.weight),
            bias: words(case.bias.as_ref().unwrap()),
            targets: integers(&case.targets),
            offsets: buffer(gpu, offsets),
            ids: integers(ids),
        }
    }

    fn data(&self, case: &Case<f32>, columns: std::ops::Range<usize>) -> LinearData<'_> {
        let (dim, rows) = (case.dim, case.targets.len());
        LinearData {
            rows,
            dim,
            vocab: case.vocab,
            dtype: Dtype::F32,
            hidden: part(&self.hidden, 0, rows * dim),
            weight: vec![part(&self.weight, columns.start * dim, columns.len() * dim)],
            bias: Some(part(&self.bias, columns.start, columns.len())),
            targets: part(&self.targets, 0, rows),
            map: None,
            columns,
        }
    }

    fn columns(&self) -> ColumnBindings<'_> {
        let words = |buffer: &wgpu::Buffer| buffer.size() as usize / 4;
        ColumnBindings {
            offsets: part(&self.offsets, 0, words(&self.offsets)),
            ids: part(&self.ids, 0, words(&self.ids)),
            entries: words(&self.ids),
        }
    }
}

fn submit(gpu: &Gpu, record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<(), GpuError>) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder).unwrap();
    gpu.queue().submit([encoder.finish()]);
}

/// Padding between the ids, and ids of no class, which a caller may leave.
#[test]
fn listed_logits_of_hidden_states_of_a_caller() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(20, 19, 333, true);
    let linear = case.linear();
    let lists = Lists::new(20, 333, 30);
    let columns = lists.columns(linear.batch().shape());
    let mut want = vec![0.0; columns.entries()];
    gather_linear(&linear, &columns, &mut want).unwrap();
    // Behind each listed column one that is none.
    let offsets: Vec<u32> = lists.offsets.iter().map(|at| 2 * *at as u32).collect();
    let ids: Vec<i32> =
        lists.ids.iter().flat_map(|id| [*id, [IGNORE_INDEX, 333, i32::MAX][*id as usize % 3]]).collect();
    let on_gpu = OnGpu::new(gpu, &case, &offsets, &ids);
    for options in all_options() {
        let mut parts = vec![tokenloss_core::RowPart::empty(); 20];
        gpu.rests_linear(&linear, &options, &columns, &mut parts).unwrap();
        let gathered = buffer(gpu, &vec![7; ids.len()]);
        let run = |columns, records| {
            let job = LinearRestsJob {
                data: on_gpu.data(&case, columns),
                columns: on_gpu.columns(),
                gathered: Some(part(&gathered, 0, ids.len())),
                records: part(records, 0, 20 * RECORD_WORDS),
                options,
            };
            submit(gpu, |encoder| gpu.kernels().encode_linear_rests(encoder, &job));
        };
        let records = buffer(gpu, &vec![0; 20 * RECORD_WORDS]);
        let of_shards = [(); 2].map(|()| buffer(gpu, &vec![0; 20 * RECORD_WORDS]));
        // The second time in shards, of which each leaves what is another's.
        for shards in [false, true] {
            if shards {
                run(0..100, &of_shards[0]);
                run(100..333, &of_shards[1]);
            } else {
                run(0..333, &records);
            }
            let got: Vec<_> = read(gpu, &gathered).iter().map(|z| f32::from_bits(*z)).collect();
            for row in 0..20 {
                let ignored = case.targets[row] == IGNORE_INDEX;
                for entry in columns.range(row) {
                    assert!(got[2 * entry + 1].is_nan(), "padding of row {row}");
                    let (got, want) = (f64::from(got[2 * entry]), want[entry]);
                    // 20 roundings of products of at most 4 / sqrt(19), and a bias of at most 1.
                    let near = (got - want).abs() <= 20.0 * 2f64.powi(-24) * 19.0;
                    assert!(
                        if ignored { got.is_nan() } else { near },
                        "row {row}, entry {entry}: {got}, {want}"
                    );
                }
            }
        }
        let read_records = |buffer| -> Vec<Record> {
            read(gpu, buffer).as_chunks::<RECORD_WORDS>().0.iter().map(Record::from_words).collect()
        };
        let (whole, halves) = (read_records(&records), of_shards.each_ref().map(read_records));
        for (row, (record, part)) in
            whole.iter().zip(&parts).enumerate().filter(|(row, _)| case.targets[*row] >= 0)
        {
            let stats = &part.stats;
            assert_eq!((f64::from(record.max), f64::from(record.tail)), (stats.max, stats.tail), "row {row}");
            let listed = columns.of_row(row).contains(&case.targets[row]);
            assert_eq!(record.target_logit == f32::NEG_INFINITY, listed, "row {row}");
            let lse = |record: &Record| f64::from(record.max) + f64::from(record.tail).ln_1p();
            let [a, b] = [0, 1].map(|half: usize| lse(&halves[half][row]));
            let merged = a.max(b) + (-(a - b).abs()).exp().ln_1p();
            assert!((merged - lse(record)).abs() < 1e-5, "row {row}: {merged}");
        }
    }
}

/// Gradients, losses and the greatest, of one call.
#[derive(PartialEq)]
struct Out {
    losses: Vec<f32>,
    dhidden: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
    ids: Vec<i32>,
    top: Vec<f32>,
}

fn evaluate<E: Element>(gpu: &Gpu, case: &Case<E>, options: &LinearOptions) -> Out {
    let (linear, rows) = (case.linear(), case.targets.len());
    let lists = Lists::new(rows, case.vocab, 30);
    let columns = lists.columns(linear.batch().shape());
    let mut out = Out {
        losses: vec![9.0; rows],
        dhidden: vec![f32::NAN; rows * case.dim],
        dweight: vec![0.0; case.vocab * case.dim],
        dbias: vec![0.0; case.vocab],
        ids: vec![7; 30 * rows],
        top: vec![7.0; 30 * rows],
    };
    let gradients = LinearGradients {
        dhidden: Some(&mut out.dhidden[..]),
        dweight: Some(&mut out.dweight[..]),
        dbias: Some(&mut out.dbias[..]),
    };
    let (objective, reduction, sides) = (&SubsetMass, Reduction::default(), Sides::default());
    let loss = ColumnLoss { objective, reduction, columns: &columns, sides };
    loss.evaluate_linear(gpu, &linear, options, gradients, Some(&mut out.losses)).unwrap();
    gpu.top_k_linear(&linear, options, 30, &mut out.ids, &mut out.top).unwrap();
    out
}

#[test]
fn results_repeat_bit_for_bit() {
    for gpu in gpus() {
        let case = Case::<bf16>::new(70, 40, 1030, true);
        for options in
            [LinearOptions::default(), LinearOptions { chunk_vocab: Some(300), ..Default::default() }]
        {
            let first = evaluate(gpu, &case, &options);
            assert!((0..2).all(|_| evaluate(gpu, &case, &options) == first));
        }
    }
}

#[test]
fn a_head_larger_than_any_binding() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    // 1.5 MB of weight, 3 MB of its gradient.
    let case = Case::<bf16>::new(9, 151, 5_001, true);
    let options = LinearOptions { budget: Budget(300_000), ..LinearOptions::default() };
    let (got, same) = (evaluate(&gpu, &case, &options), evaluate(baseline().unwrap(), &case, &options));
    // Cuts change no bit: every sum runs over the same terms in the same order, but for dhidden.
    assert!(same.losses == got.losses && same.dweight == got.dweight && same.dbias == got.dbias);
    assert!(same.ids == got.ids && same.top == got.top);
}

/// As a row and not as an error, a bad one is pushed back.
#[test]
fn bad_rows_are_nan_where_that_is_asked() {
    let Some(gpu) = baseline() else { return };
    let mut case = Case::<f32>::new(20, 19, 333, false);
    case.hidden[3 * 19 + 2] = f32::INFINITY;
    case.non_finite = NonFinite::NanRow;
    for options in all_options() {
        let out = evaluate(gpu, &case, &options);
        for row in 0..20 {
            let d = &out.dhidden[row * 19..][..19];
            assert!(d.iter().all(|d| d.is_nan() == (row == 3)), "row {row}: {d:?}");
            assert_eq!(out.losses[row].is_nan(), row == 3);
            let (ids, top) = (&out.ids[row * 30..][..30], &out.top[row * 30..][..30]);
            assert!(top.iter().all(|z| z.is_nan() == (row == 3)) && (row != 3 || ids == [IGNORE_INDEX; 30]));
        }
        assert!(out.dweight.iter().chain(&out.dbias).all(|d| d.is_nan()));
    }
}

fn refused(result: Result<(), GpuError>, text: &str) {
    assert_eq!(result.map_err(|error| error.to_string()), Err(text.to_owned()));
}

#[test]
fn bindings_that_do_not_fit() {
    let Some(gpu) = baseline() else { return };
    let pool = buffer(gpu, &vec![0; 4096]);
    let (other, records) = (buffer(gpu, &[0; 64]), buffer(gpu, &[0; 4 * RECORD_WORDS]));
    let shape = Shape::new(4, 10).unwrap();
    let (logits, targets) = (part(&pool, 0, 40), part(&pool, 64, 4));
    let data = Data { shape, dtype: Dtype::F32, logits, targets, map: None };
    let listed = |offsets, ids, entries| ColumnBindings { offsets, ids, entries };
    let fitting = listed(part(&pool, 128, 5), part(&pool, 192, 8), 8);
    let encoder = || gpu.device().create_command_encoder(&Default::default());
    let take = |columns: ColumnBindings<'_>, gathered| {
        let job = TakeJob { data: data.clone(), columns, gathered };
        gpu.kernels().encode_take(&mut encoder(), &job)
    };
    take(fitting.clone(), None).unwrap();
    take(fitting.clone(), Some(part(&other, 0, 8))).unwrap();
    let short = listed(part(&pool, 128, 4), part(&pool, 192, 8), 8);
    refused(take(short, None), "offsets: expected a binding of at least 20 bytes, got 16");
    let short = listed(part(&pool, 128, 5), part(&pool, 192, 7), 8);
    refused(take(short, None), "ids: expected a binding of at least 32 bytes, got 28");
    let short = Some(part(&other, 0, 7));
    refused(take(fitting.clone(), short), "gathered: expected a binding of at least 32 bytes, got 28");
    let over = Some(part(&pool, 199, 8));
    refused(take(fitting.clone(), over), "gathered and ids share bytes of a buffer");
    let over = listed(part(&pool, 39, 5), part(&pool, 192, 8), 8);
    refused(take(over, None), "logits and offsets share bytes of a buffer");
    let mut without = fitting.clone();
    without.ids.size = None;
    refused(take(without, None), "ids: expected a binding with a size, got none");
    let put = |values| {
        let job = PutJob { data: data.clone(), columns: fitting.clone(), values };
        gpu.kernels().encode_put(&mut encoder(), &job)
    };
    // Values are read, and may be anywhere but in what is written.
    put(part(&pool, 192, 8)).unwrap();
    refused(put(part(&pool, 30, 8)), "logits and values share bytes of a buffer");
    let top = |top, records| {
        let job = TopKJob { data: data.clone(), columns: fitting.clone(), top, records };
        gpu.kernels().encode_top_k(&mut encoder(), &job)
    };
    top(part(&other, 0, 8), part(&records, 0, 4 * RECORD_WORDS)).unwrap();
    let overlap = top(part(&pool, 192, 8), part(&records, 0, 4 * RECORD_WORDS));
    refused(overlap, "ids and top share bytes of a buffer");
    let short = top(part(&other, 0, 8), part(&records, 0, 3 * RECORD_WORDS));
    refused(short, "records: expected a binding of at least 352 bytes, got 264");
}

#[test]
fn more_entries_than_a_binding_holds() {
    let Some(gpu) = open(Some(Variant::Baseline), Some(low_limits())).map(Result::unwrap) else { return };
    let case = Case::<f32>::new(20, 19, 333, false);
    let k = 20_000;
    let (mut ids, mut top) = (vec![7; 20 * k], vec![7.0; 20 * k]);
    let got = gpu.top_k_linear(&case.linear(), &LinearOptions::default(), k, &mut ids, &mut top);
    refused(got, "max_storage_buffer_binding_size: expected at least 1600000, the device has 1048576");
    // With logits, some rows at a time.
    let logits = vec![0.5f32; 20 * 333];
    gpu.top_k(case.linear().batch(), &logits, k, &mut ids, &mut top).unwrap();
    assert!(ids.chunks(k).all(|ids| ids[..333].iter().copied().eq(0..333) && ids[333] == IGNORE_INDEX));
    let k = 300_000;
    let (mut ids, mut top) = (vec![7; 20 * k], vec![7.0; 20 * k]);
    let got = gpu.top_k(case.linear().batch(), &logits, k, &mut ids, &mut top);
    refused(got, "top: a row needs a binding of 1200000 bytes, the device allows 1048576");
}

#[test]
fn options_that_do_not_fit() {
    let Some(gpu) = baseline() else { return };
    let case = Case::<f32>::new(20, 19, 333, true);
    let (linear, default) = (case.linear(), LinearOptions::default());
    let lists = Lists::new(20, 333, 30);
    let columns = lists.columns(linear.batch().shape());
    let (d_rests, d_gathered) = (vec![0.0; 20], vec![0.0; columns.entries()]);
    let rests = vec![RowSummary::nan(); 20];
    let push = |options: LinearOptions| {
        let partials = ColumnPartials { columns: &columns, d_rests: &d_rests, d_gathered: &d_gathered };
        let none = LinearGradients::<f32>::default();
        gpu.push_back_columns_linear(&linear, &options, &rests, partials, none).map(|_| ())
    };
    let small = LinearOptions { budget: Budget(10), ..default };
    let budget = "budget: 10 bytes hold not even one row and a few columns, expected at least ";
    assert!(push(small).unwrap_err().to_string().starts_with(budget), "{}", push(small).unwrap_err());
    refused(
        push(LinearOptions { block_tolerance: 0.1, ..default }),
        "block_tolerance: not supported on the GPU",
    );
    refused(push(LinearOptions { chunk_rows: Some(0), ..default }), "chunk_rows: expected at least 1, got 0");
    let mut parts = vec![tokenloss_core::RowPart::empty(); 20];
    // A tolerance is a gradient's.
    let tolerant = LinearOptions { block_tolerance: 0.1, ..default };
    gpu.rests_linear(&linear, &tolerant, &columns, &mut parts).unwrap();
    let error = gpu.rests_linear(&linear, &small, &columns, &mut parts).unwrap_err();
    assert!(error.to_string().starts_with(budget), "{error}");

    let on_gpu = OnGpu::new(gpu, &case, &[0; 21], &[0; 8]);
    let records = buffer(gpu, &vec![0; 20 * RECORD_WORDS]);
    let out = buffer(gpu, &[0; 20 * 19]);
    let encode = |dhidden, d_gathered| {
        let job = LinearPushBackColumnsJob {
            data: on_gpu.data(&case, 0..333),
            columns: on_gpu.columns(),
            d_gathered,
            records: part(&records, 0, 20 * RECORD_WORDS),
            gradients: LinearBuffers { dhidden: Some((dhidden, Dtype::F32)), ..LinearBuffers::default() },
            options: default,
            non_finite: NonFinite::Error,
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        gpu.kernels().encode_linear_push_back_columns(&mut encoder, &job)
    };
    let values = buffer(gpu, &[0; 8]);
    encode(part(&out, 0, 380), part(&values, 0, 8)).unwrap();
    let shared = encode(part(&out, 0, 380), part(&out, 372, 8));
    refused(shared, "dhidden and d_gathered share bytes of a buffer");
    let job = LinearTopKJob {
        data: on_gpu.data(&case, 0..333),
        columns: on_gpu.columns(),
        top: part(&values, 0, 7),
        records: part(&records, 0, 20 * RECORD_WORDS),
        options: default,
    };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let short = gpu.kernels().encode_linear_top_k(&mut encoder, &job);
    refused(short, "top: expected a binding of at least 32 bytes, got 28");
}
