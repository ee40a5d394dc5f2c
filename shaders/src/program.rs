//! Which files make a shader.

use crate::divergence::compare;
use crate::label::judge_labels;
use crate::objective::{NoObjective, detail, judge};
use crate::{ShaderDivergence, ShaderLabel, ShaderObjective, binding};
use tokenloss_core::{Detail, Dtype};

/// How many words a lane loads at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// One. Any row that begins on a whole word.
    Word,
    /// Four. Logits and gradient must begin at the same place modulo 16 bytes, and their bindings hold whole
    /// groups of four words.
    Vec4,
}

/// Where the gradient goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// Nowhere: forward only.
    None,
    /// Over the logits.
    InPlace,
    /// To a binding of its own.
    OutOfPlace,
}

/// What logits are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Map {
    /// Themselves.
    None,
    /// Themselves, with a scale, a margin or a mask.
    Identity,
    /// Bounded.
    Softcap,
    /// What makes their softmax StableMax.
    StableMax,
}

impl Map {
    /// All of them.
    pub const ALL: [Map; 4] = [Self::None, Self::Identity, Self::Softcap, Self::StableMax];
}

/// How the lanes of a workgroup are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// A tree in workgroup memory; needs no feature.
    Tree,
    /// Subgroup operations; needs them, and subgroups of at least 4 lanes.
    Subgroup,
}

/// A matrix product of the linear form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// `tile = hidden @ weight^T + bias`.
    Logits,
    /// `dhidden += dlogits @ weight`.
    Hidden,
    /// `dweight += dlogits^T @ hidden`.
    Weight,
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tiles {
    /// 4 x 4 sums in the registers of each of 256 invocations. Needs no feature.
    Registers,
    /// Cooperative matrices: wgpu's `EXPERIMENTAL_COOPERATIVE_MATRIX`, workgroups of four subgroups of a known size, and an
    /// adapter that lists just these matrices. MSL and SPIR-V only.
    Cooperative(Matrices),
}

/// Square cooperative matrices whose sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrices {
    /// 8 x 8, operands in f16.
    F16x8,
    /// 16 x 16, operands in f16.
    F16x16,
    /// 8 x 8, operands in f32.
    F32x8,
    /// 16 x 16, operands in f32.
    F32x16,
}

impl Matrices {
    /// All of them, the most exact and largest first.
    pub const ALL: [Matrices; 4] = [Self::F32x16, Self::F32x8, Self::F16x16, Self::F16x8];

    /// Rows and columns.
    pub const fn side(self) -> u32 {
        match self {
            Self::F16x8 | Self::F32x8 => 8,
            Self::F16x16 | Self::F32x16 => 16,
        }
    }

    /// Whether operands are narrowed to f16.
    pub const fn narrows(self) -> bool {
        matches!(self, Self::F16x8 | Self::F16x16)
    }
}

/// What says whether a judged row is pushed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Live {
    /// Its partials.
    Records,
    /// The derivatives by its listed columns and by the rest.
    Columns,
    /// Its partials, and what its divergence is multiplied by.
    Pair,
}

impl Live {
    /// All of them.
    pub const ALL: [Live; 3] = [Self::Records, Self::Columns, Self::Pair];
}

impl Product {
    /// Rows and columns that one workgroup computes.
    pub const SIDE: usize = 64;
}

/// A compute shader. The entry point is `main`, the workgroup size the override `WG`: a power of two from 8 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Summarise, judge and push back, one workgroup a row.
    Evaluate {
        /// Storage type of logits and gradient.
        dtype: Dtype,
        /// Words a load.
        width: Width,
        /// Where the gradient goes.
        store: Store,
        /// How lanes are merged.
        reduce: Reduce,
        /// What logits are taken for.
        map: Map,
        /// The storage type of the teacher's logits that guide the row, if any do.
        guide: Option<Dtype>,
    },
    /// Logits to records, one workgroup a row. Knows no objective.
    Summarise {
        /// Storage type of the logits.
        dtype: Dtype,
        /// Words a load.
        width: Width,
        /// How lanes are merged.
        reduce: Reduce,
        /// What logits are taken for.
        map: Map,
    },
    /// Logits and records to the gradient, one workgroup a row. Knows no objective.
    PushBack {
        /// Storage type of logits and gradient.
        dtype: Dtype,
        /// Words a load.
        width: Width,
        /// Where the gradient goes.
        store: Store,
        /// What logits are taken for.
        map: Map,
        /// The storage type of the teacher's logits that guide the row, if any do.
        guide: Option<Dtype>,
    },
    /// Summarise two rows, judge and compare them and push the student's back, one workgroup a row.
    Pair {
        /// Storage type of the student's logits and their gradient.
        dtype: Dtype,
        /// Storage type of the teacher's logits.
        teacher: Dtype,
        /// Words a load of the student's.
        width: Width,
        /// Where the gradient goes.
        store: Store,
        /// How lanes are merged.
        reduce: Reduce,
        /// Whether the divergence's temperature is another than 1.
        temperature: bool,
    },
    /// Summarise where the objective is over the softmax, sum up the classes with their labels and push back, one workgroup a row.
    Labels {
        /// Storage type of the logits and their gradient.
        dtype: Dtype,
        /// Storage type of the labels.
        labels: Dtype,
        /// Words a load of the logits.
        width: Width,
        /// Where the gradient goes.
        store: Store,
        /// How lanes are merged.
        reduce: Reduce,
    },
    /// What each guided row has of its own to one buffer, one invocation a row.
    Gather,
    /// Records, targets and weights to totals, one workgroup in all.
    Totals,
    /// Logits to gradient as they are: the yardstick of memory speed.
    Copy,
    /// A matrix product of the linear form, one workgroup for each [`Product::SIDE`] rows and columns.
    Product {
        /// Which.
        product: Product,
        /// Storage type of hidden states, weight and bias.
        dtype: Dtype,
        /// How.
        tiles: Tiles,
    },
    /// A tile's gradient to that of the bias, one invocation a column.
    SumBias,
    /// A tile of f32 logits to parts of rows, merged into records, one workgroup a row.
    Part {
        /// Words a load.
        width: Width,
        /// How lanes are merged.
        reduce: Reduce,
        /// What logits are taken for.
        map: Map,
    },
    /// Records of merged parts to judged records, one invocation a row.
    Judge,
    /// Targets, or judged records, to the list of rows that take part, one workgroup in all.
    Compact {
        /// What says whether a judged row takes part.
        live: Live,
    },
    /// Tiles of two rows, of f32 and of the teacher's logits, to parts of both, merged into records and states, one workgroup a
    /// row.
    PairPart {
        /// Storage type of the teacher's logits.
        teacher: Dtype,
        /// How lanes are merged.
        reduce: Reduce,
        /// Whether the divergence's temperature is another than 1.
        temperature: bool,
    },
    /// The same tiles, of summarised rows, to what they add to the divergence, one workgroup a row.
    PairSums {
        /// Storage type of the teacher's logits.
        teacher: Dtype,
    },
    /// Records and states of merged parts to judged records, one invocation a row.
    PairJudge,
    /// The same tiles to the student's gradient in place, one workgroup a row.
    PairPushBack {
        /// Storage type of the teacher's logits.
        teacher: Dtype,
    },
    /// Listed logits to values, and masks in their place, one workgroup a row.
    Take {
        /// Storage type of the logits.
        dtype: Dtype,
    },
    /// Values to listed logits or their gradient, one workgroup a row.
    Put {
        /// Storage type of logits and gradient.
        dtype: Dtype,
    },
    /// The greatest logits of a row and their columns, merged into those of columns before, one workgroup a row.
    TopK {
        /// Storage type of the logits.
        dtype: Dtype,
        /// Words a load.
        width: Width,
        /// What logits are taken for.
        map: Map,
    },
    /// Sums in f32 to `dhidden`, one invocation a word.
    StoreHidden {
        /// Storage type of `dhidden`.
        dtype: Dtype,
    },
}

macro_rules! wgsl {
    ($file:literal) => {
        include_str!(concat!("../", $file, ".wgsl"))
    };
}

/// The statistics that are taken. Records always have the entropy.
fn sums(objective: &dyn ShaderObjective) -> &'static str {
    match detail(objective) {
        Detail::Target | Detail::Entropy => wgsl!("detail/entropy"),
        Detail::Moments => wgsl!("detail/moments"),
    }
}

fn of_dtype(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => wgsl!("dtype/f32"),
        Dtype::F16 => wgsl!("dtype/f16"),
        Dtype::Bf16 => wgsl!("dtype/bf16"),
    }
}

/// What reads a teacher's logits beside a row's own.
fn of_teacher(teacher: Dtype, dtype: Dtype) -> [&'static str; 3] {
    [
        if teacher == dtype { "" } else { unpack(teacher) },
        match teacher {
            Dtype::F32 => wgsl!("teacher/f32"),
            Dtype::F16 => wgsl!("teacher/f16"),
            Dtype::Bf16 => wgsl!("teacher/bf16"),
        },
        wgsl!("teacher"),
    ]
}

/// What the files of a storage type share.
fn unpack(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => wgsl!("unpack/f16"),
        Dtype::F32 | Dtype::Bf16 => "",
    }
}

impl Program {
    /// The text of a [`Pair`](Self::Pair), with the twins of its objective and its divergence.
    pub fn assemble_pair(self, objective: &dyn ShaderObjective, divergence: &dyn ShaderDivergence) -> String {
        self.assemble_with(&Self::judge_pair(objective, divergence))
    }

    /// The part of a pair's text that depends on objective and divergence.
    pub fn judge_pair(objective: &dyn ShaderObjective, divergence: &dyn ShaderDivergence) -> String {
        [sums(objective), &judge(objective), &compare(divergence)].join("\n")
    }

    /// The part of the text of [`Labels`](Self::Labels) that depends on the objective.
    pub fn judge_labels(objective: &dyn ShaderLabel) -> String {
        judge_labels(objective)
    }

    /// The text of [`Labels`](Self::Labels), with the twin of its objective.
    pub fn assemble_labels(self, objective: &dyn ShaderLabel) -> String {
        self.assemble_with(&judge_labels(objective))
    }

    /// The part of a text that knows a divergence: what a [`PairSums`](Self::PairSums) and a
    /// [`PairPushBack`](Self::PairPushBack) are put together with.
    pub fn compare(divergence: &dyn ShaderDivergence) -> String {
        compare(divergence)
    }

    /// The text, with an objective's twin in it where the program judges. That of a pair is
    /// [`assemble_pair`](Self::assemble_pair), that of labels [`assemble_labels`](Self::assemble_labels).
    pub fn assemble(self, objective: &dyn ShaderObjective) -> String {
        self.assemble_with(&self.judge(objective))
    }

    /// The part of the text that depends on the objective; for [`NoObjective`](crate::NoObjective) all statistics are taken.
    /// Together with the program it identifies the text. That of a pair is [`judge_pair`](Self::judge_pair).
    pub fn judge(self, objective: &dyn ShaderObjective) -> String {
        match self {
            Self::Evaluate { .. } => sums(objective).to_owned() + &judge(objective),
            Self::Summarise { .. } => sums(&NoObjective).to_owned() + &judge(&NoObjective),
            Self::Judge | Self::PairJudge => judge(objective),
            Self::Part { .. } | Self::PairPart { .. } => sums(objective).to_owned(),
            _ => String::new(),
        }
    }

    /// The text around what [`judge`](Self::judge), [`judge_pair`](Self::judge_pair) or [`compare`](Self::compare) returned.
    pub fn assemble_with(self, judge: &str) -> String {
        if let Self::Product { product, dtype, tiles } = self {
            let product = match product {
                Product::Logits => wgsl!("product/logits"),
                Product::Hidden => wgsl!("product/hidden"),
                Product::Weight => wgsl!("product/weight"),
            };
            let (matrices, tiles) = match tiles {
                Tiles::Registers => ("", wgsl!("product/registers")),
                Tiles::Cooperative(matrices) => (
                    match matrices {
                        Matrices::F16x8 => wgsl!("product/matrix/f16_8"),
                        Matrices::F16x16 => wgsl!("product/matrix/f16_16"),
                        Matrices::F32x8 => wgsl!("product/matrix/f32_8"),
                        Matrices::F32x16 => wgsl!("product/matrix/f32_16"),
                    },
                    wgsl!("product/cooperative"),
                ),
            };
            return [matrices, unpack(dtype), of_dtype(dtype), wgsl!("product/params"), product, tiles]
                .join("\n");
        }
        if self == Self::SumBias {
            return [of_dtype(Dtype::F32), wgsl!("product/params"), wgsl!("product/bias")].join("\n");
        }
        let head = [wgsl!("params"), wgsl!("math"), wgsl!("row"), wgsl!("objective"), wgsl!("record")];
        let row = |dtype, width, store, reduce, map| {
            [
                wgsl!("stats"),
                unpack(dtype),
                of_dtype(dtype),
                match width {
                    Width::Word => wgsl!("width/word"),
                    Width::Vec4 => wgsl!("width/vec4"),
                },
                match store {
                    Store::None => wgsl!("store/none"),
                    Store::InPlace => wgsl!("store/in_place"),
                    Store::OutOfPlace => wgsl!("store/out_of_place"),
                },
                match map {
                    Map::None => "",
                    Map::Identity => wgsl!("link/identity"),
                    Map::Softcap => wgsl!("link/softcap"),
                    Map::StableMax => wgsl!("link/stable_max"),
                },
                if map == Map::None { wgsl!("map/none") } else { wgsl!("map/linked") },
                wgsl!("sweep"),
                match reduce {
                    Reduce::Tree => wgsl!("reduce/tree"),
                    Reduce::Subgroup => wgsl!("reduce/subgroup"),
                },
            ]
        };
        let guide = |guide: Option<Dtype>, dtype| match guide {
            None => ["", "", "", wgsl!("guide/none")],
            Some(teacher) => {
                let [unpack, bits, load] = of_teacher(teacher, dtype);
                [unpack, bits, load, wgsl!("guide/teacher")]
            }
        };
        let temperature_of = |any| if any { wgsl!("temperature/any") } else { wgsl!("temperature/one") };
        let tile = |store, reduce| {
            row(Dtype::F32, Width::Vec4, store, reduce, Map::None).into_iter().chain([wgsl!("guide/none")])
        };
        let mut parts = head.to_vec();
        match self {
            Self::Evaluate { dtype, width, store, reduce, map, guide: by } => {
                parts.extend(row(dtype, width, store, reduce, map));
                parts.extend(guide(by, dtype));
                parts.extend([judge, wgsl!("kernel/shared"), wgsl!("kernel/evaluate")]);
            }
            Self::Summarise { dtype, width, reduce, map } => {
                parts.extend(row(dtype, width, Store::None, reduce, map));
                parts.extend([wgsl!("guide/none"), judge, wgsl!("kernel/shared"), wgsl!("kernel/evaluate")]);
            }
            Self::PushBack { dtype, width, store, map, guide: by } => {
                parts.push(wgsl!("detail/entropy"));
                parts.extend(row(dtype, width, store, Reduce::Tree, map));
                parts.extend(guide(by, dtype));
                parts.extend([wgsl!("push"), wgsl!("kernel/push_back")]);
            }
            Self::Pair { dtype, teacher, width, store, reduce, temperature } => {
                parts.extend(row(dtype, width, store, reduce, Map::None));
                parts.push(wgsl!("guide/none"));
                parts.extend(of_teacher(teacher, dtype));
                parts.extend([
                    temperature_of(temperature),
                    wgsl!("reduce/sums"),
                    wgsl!("number"),
                    wgsl!("entry"),
                    wgsl!("frame"),
                    wgsl!("pair/seen"),
                    wgsl!("pair/sums"),
                    wgsl!("weighted"),
                    wgsl!("pair/gradient"),
                    judge,
                    wgsl!("kernel/shared"),
                    wgsl!("kernel/pair"),
                ]);
            }
            Self::Labels { dtype, labels, width, store, reduce } => {
                parts.push(wgsl!("detail/entropy"));
                parts.extend(row(dtype, width, store, reduce, Map::None));
                parts.push(wgsl!("guide/none"));
                parts.extend(of_teacher(labels, dtype));
                parts.extend([
                    wgsl!("reduce/sums"),
                    wgsl!("weighted"),
                    wgsl!("number"),
                    wgsl!("label"),
                    judge,
                    wgsl!("kernel/shared"),
                    wgsl!("kernel/labels"),
                ]);
            }
            Self::Gather => parts.push(wgsl!("kernel/gather")),
            Self::PairPart { teacher, reduce, temperature } => {
                parts.extend(tile(Store::None, reduce));
                parts.extend(of_teacher(teacher, Dtype::F32));
                parts.extend([temperature_of(temperature), wgsl!("reduce/sums"), wgsl!("pair/seen")]);
                parts.extend([
                    wgsl!("pair/state"),
                    wgsl!("part"),
                    judge,
                    wgsl!("kernel/shared"),
                    wgsl!("kernel/pair_part"),
                ]);
            }
            Self::PairSums { teacher } => {
                parts.push(wgsl!("detail/entropy"));
                parts.extend(tile(Store::None, Reduce::Tree));
                parts.extend(of_teacher(teacher, Dtype::F32));
                parts.extend([
                    wgsl!("reduce/sums"),
                    wgsl!("number"),
                    wgsl!("entry"),
                    wgsl!("frame"),
                    wgsl!("pair/state"),
                ]);
                parts.extend([wgsl!("pair/frame"), wgsl!("pair/sums"), judge, wgsl!("kernel/pair_sums")]);
            }
            Self::PairJudge => {
                parts.extend([wgsl!("pair/state"), wgsl!("weighted"), judge, wgsl!("kernel/pair_judge")]);
            }
            Self::PairPushBack { teacher } => {
                parts.push(wgsl!("detail/entropy"));
                parts.extend(tile(Store::InPlace, Reduce::Tree));
                parts.extend(of_teacher(teacher, Dtype::F32));
                parts.extend([wgsl!("number"), wgsl!("entry"), wgsl!("frame")]);
                parts.extend([wgsl!("pair/state"), wgsl!("pair/frame")]);
                parts.extend([wgsl!("weighted"), wgsl!("pair/gradient"), wgsl!("push"), judge]);
                parts.push(wgsl!("kernel/pair_push_back"));
            }
            Self::Totals => parts.push(wgsl!("kernel/totals")),
            Self::Copy => parts.push(wgsl!("kernel/copy")),
            Self::Part { width, reduce, map } => {
                parts.extend(row(Dtype::F32, width, Store::None, reduce, map));
                parts.extend([wgsl!("guide/none"), judge, wgsl!("kernel/shared"), wgsl!("part")]);
                parts.push(wgsl!("kernel/part"));
            }
            Self::Judge => parts.extend([judge, wgsl!("kernel/judge")]),
            Self::Compact { live } => {
                parts.extend(match live {
                    Live::Records => ["", "", wgsl!("live/records")],
                    Live::Columns => ["", wgsl!("columns"), wgsl!("live/columns")],
                    Live::Pair => [wgsl!("weighted"), wgsl!("pair/state"), wgsl!("live/pair")],
                });
                parts.push(wgsl!("kernel/compact"));
            }
            Self::Take { dtype } | Self::Put { dtype } => {
                parts.extend([unpack(dtype), of_dtype(dtype), wgsl!("width/word"), wgsl!("columns")]);
                parts.push(match self {
                    Self::Take { .. } => wgsl!("kernel/take"),
                    _ => wgsl!("kernel/put"),
                });
            }
            Self::TopK { dtype, width, map } => {
                parts.push(wgsl!("detail/entropy"));
                parts.extend(row(dtype, width, Store::None, Reduce::Tree, map));
                parts.extend([wgsl!("guide/none"), wgsl!("columns"), wgsl!("kernel/top_k")]);
            }
            Self::StoreHidden { dtype } => {
                parts.extend([unpack(dtype), of_dtype(dtype), wgsl!("kernel/store_hidden")])
            }
            Self::Product { .. } | Self::SumBias => {}
        }
        parts.join("\n")
    }

    /// Whether the program reads the number of listed rows as a uniform.
    pub fn reads_count(self) -> bool {
        matches!(self, Self::Product { tiles: Tiles::Cooperative(_), .. })
    }

    /// The storage bindings, by number. A layout has these, each `read_write`, the uniform, and the
    /// [count](Self::reads_count).
    pub fn bindings(self) -> Vec<u32> {
        let (mapped, guided) = match self {
            Self::Evaluate { map, guide, .. } | Self::PushBack { map, guide, .. } => {
                (map != Map::None, guide.is_some())
            }
            Self::Summarise { map, .. } | Self::Part { map, .. } | Self::TopK { map, .. } => {
                (map != Map::None, false)
            }
            _ => (false, false),
        };
        let own: &[u32] = match self {
            Self::Pair { store: Store::OutOfPlace, .. } => &[1, 2, 3, 4, 5, 6, 16, 17],
            Self::Pair { .. } => &[1, 2, 3, 5, 6, 16, 17],
            Self::Labels { store: Store::OutOfPlace, .. } => &[1, 2, 3, 4, 5, 6, 16, 20],
            Self::Labels { .. } => &[1, 2, 3, 5, 6, 16, 20],
            Self::Evaluate { store: Store::OutOfPlace, .. }
            | Self::PushBack { store: Store::OutOfPlace, .. } => &[1, 2, 3, 4, 5, 6],
            Self::Evaluate { .. } | Self::Summarise { .. } | Self::PushBack { .. } => &[1, 2, 3, 5, 6],
            Self::Gather => &[3, 14, 18, 19],
            Self::Totals => &[2, 3, 5, 6],
            Self::Copy => &[1, 4],
            Self::Product { product: Product::Logits, .. } => &[1, 7, 8, 9, 10],
            Self::Product { product: Product::Hidden, .. } => &[1, 8, 10, 11],
            Self::Product { product: Product::Weight, .. } => &[1, 7, 10, 11],
            Self::SumBias => &[1, 10, 11],
            Self::Part { .. } => &[1, 2, 5],
            Self::Judge => &[2, 5],
            Self::Compact { live: Live::Records } => &[2, 3, 5, 6, 10, 13],
            Self::Compact { live: Live::Columns } => &[2, 5, 10, 13, 21, 22, 23],
            Self::Compact { live: Live::Pair } => &[2, 3, 5, 6, 10, 13, 24],
            Self::PairPart { .. } | Self::PairSums { .. } => &[1, 2, 5, 16, 24],
            Self::PairJudge => &[2, 3, 5, 17, 24],
            Self::PairPushBack { .. } => &[1, 2, 3, 5, 6, 16, 24],
            Self::Take { .. } | Self::Put { .. } => &[1, 2, 21, 22, 23],
            Self::TopK { .. } => &[1, 2, 5, 21, 22, 23],
            Self::StoreHidden { .. } => &[2, 5, 11, 12],
        };
        let more: &[u32] = match (mapped, guided) {
            (false, false) => &[],
            (true, false) => &[14, 15],
            (false, true) => &[14, 16],
            (true, true) => &[14, 15, 16],
        };
        // A guided row's weight is gathered.
        let own = own.iter().filter(|binding| !(guided && **binding == binding::WEIGHTS));
        own.chain(more).copied().collect()
    }
}
