//! The buffers as the shaders see them.

use tokenloss_core::{MAX_PARAMETERS, Totals};

/// Binding numbers in group 0. All storage is `read_write`; the uniform has a dynamic offset.
pub mod binding {
    /// The uniform, [`Params`](super::Params).
    pub const PARAMS: u32 = 0;
    /// `logits [rows, stride]`.
    pub const LOGITS: u32 = 1;
    /// `targets [rows]`, i32.
    pub const TARGETS: u32 = 2;
    /// `weights [rows]`, f32.
    pub const WEIGHTS: u32 = 3;
    /// `dlogits [rows, stride]`, where it is not written over the logits.
    pub const DLOGITS: u32 = 4;
    /// Records, [`RECORD_WORDS`](super::RECORD_WORDS) words a row.
    pub const RECORDS: u32 = 5;
    /// Totals, [`TOTALS_WORDS`](super::TOTALS_WORDS) words.
    pub const TOTALS: u32 = 6;
    /// `hidden [rows, dim]`.
    pub const HIDDEN: u32 = 7;
    /// `weight [columns, dim]`.
    pub const WEIGHT: u32 = 8;
    /// `bias [columns]`.
    pub const BIAS: u32 = 9;
    /// The rows that take part, u32: their number, and then each.
    pub const LIST: u32 = 10;
    /// What a product is added to or stored in.
    pub const OUT: u32 = 11;
    /// `dhidden [rows, dim]` in f32, before it is stored.
    pub const SUMS: u32 = 12;
    /// The number of rows that take part, 16 bytes: storage where it is written, a uniform where it is read.
    pub const COUNT: u32 = 13;
    /// Each row's scale and margin, f32; of guided rows, what is gathered.
    pub const ROW_MAPS: u32 = 14;
    /// The bits of the classes that are allowed, u32.
    pub const MASK: u32 = 15;
    /// The teacher's logits, or labels, `[rows, teacher_stride]`.
    pub const TEACHER: u32 = 16;
    /// The divergences `[rows]`, f32.
    pub const DIVERGENCES: u32 = 17;
    /// The strengths of a guidance `[rows]`, f32.
    pub const STRENGTHS: u32 = 18;
    /// What is gathered of each row, [`GATHERED_WORDS`](super::GATHERED_WORDS) f32.
    pub const GATHERED: u32 = 19;
    /// The weights of classes `[vocab]`, f32.
    pub const CLASS_WEIGHTS: u32 = 20;
    /// Where the listed columns of each row begin among all entries, and where the last ones end: `[rows + 1]`, u32.
    pub const OFFSETS: u32 = 21;
    /// The listed columns `[entries]`, i32.
    pub const IDS: u32 = 22;
    /// What belongs to them `[entries]`, f32.
    pub const VALUES: u32 = 23;
    /// What is known of pairs of rows beside the records, [`STATE_WORDS`](super::STATE_WORDS) words a row.
    pub const STATES: u32 = 24;
}

/// Bits of [`Params::flags`].
pub mod flag {
    /// Rows have weights.
    pub const WEIGHTS: u32 = 1;
    /// Partials are multiplied by the row's weight and by the scale in the totals.
    pub const SCALE: u32 = 2;
    /// Totals start from 0; otherwise they go on from what the buffer holds.
    pub const FIRST: u32 = 4;
    /// Records hold losses, so that totals sum them.
    pub const JUDGED: u32 = 8;
    /// Rows that are live are listed, or are counted by their records.
    pub const LIVE: u32 = 16;
    /// Bad rows are live.
    pub const NAN_ROWS: u32 = 32;
    /// Rows have a scale and a margin of their own.
    pub const ROW_MAPS: u32 = 64;
    /// Only some classes are allowed.
    pub const MASK: u32 = 128;
    /// Rows have a strength of guidance of their own.
    pub const STRENGTHS: u32 = 256;
    /// Classes have weights.
    pub const CLASS_WEIGHTS: u32 = 512;
    /// Listed logits are kept when they are taken.
    pub const GATHER: u32 = 1024;
}

/// The status of a row whose logits are all -infinity. Any non-zero status other than those that have a name, or are made of
/// one, is the column of the first NaN or +infinity, plus 1.
pub const STATUS_NO_MASS: u32 = 0xffff_ffff;

/// The status of a row whose target is neither -100 nor in `0..vocab`.
pub const STATUS_BAD_TARGET: u32 = 0xffff_fffe;

/// The status of a pair of rows whose teacher's logits are all -infinity.
pub const STATUS_TEACHER_NO_MASS: u32 = 0xffff_fffd;

/// This and the column, plus 1, of the first NaN or +infinity in a teacher's row are the status of the pair, or of the row that
/// it guides.
pub const STATUS_TEACHER: u32 = 0x4000_0000;

/// This and the first column, plus 1, that makes a divergence infinite are the status of the pair.
pub const STATUS_INFINITE: u32 = 0x8000_0000;

/// This and the column, plus 1, of the first label that is not what it may be are the status of a row with labels.
pub const STATUS_LABEL: u32 = 0xc000_0000;

/// 32-bit words of a row's record.
pub const RECORD_WORDS: usize = 22;

/// 32-bit words of what is gathered of a guided row: the scale and the margin of its map, its strength and its weight.
pub const GATHERED_WORDS: usize = 4;

/// 32-bit words of what is known of a pair of rows between the moves, beside the student's record.
pub const STATE_WORDS: usize = 10;

/// 32-bit words of the totals, see [`BatchRecord`].
pub const TOTALS_WORDS: usize = 9;

/// What a GPU knows of a batch, [`TOTALS_WORDS`] words.
///
/// ```
/// use tokenloss_shaders::BatchRecord;
///
/// let float = f32::to_bits;
/// let words = [float(6.0), float(4.0), 4, 4, 1, float(4.0), float(0.25), 0, 3];
/// let batch = BatchRecord::from_words(&words);
/// assert_eq!((batch.totals.loss(), batch.totals.live, batch.bad), (1.5, 3, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchRecord {
    /// `loss_sum` f32, `weight_sum` f32, `valid` u32, `kept` u32, `ignored` u32, `denominator` f32: words 0 to 5; `live` u32: word
    /// 8, the rows whose partials, times their weight, are not 0.
    pub totals: Totals,
    /// 1 / denominator, or 0 where that is 0. Word 6, f32.
    pub scale: f32,
    /// Rows with a NaN loss. Word 7, u32.
    pub bad: usize,
}

impl BatchRecord {
    /// From the words.
    pub fn from_words(words: &[u32; TOTALS_WORDS]) -> Self {
        let &[loss_sum, weight_sum, valid, kept, ignored, denominator, scale, bad, live] = words;
        let float = |word: u32| f64::from(f32::from_bits(word));
        let totals = Totals {
            loss_sum: float(loss_sum),
            weight_sum: float(weight_sum),
            valid: valid as usize,
            kept: kept as usize,
            ignored: ignored as usize,
            live: live as usize,
            denominator: float(denominator),
        };
        Self { totals, scale: f32::from_bits(scale), bad: bad as usize }
    }
}

/// What a GPU knows of one row, [`RECORD_WORDS`] words. An ignored row has loss 0 and no partials; a row whose status is not
/// 0 is NaN throughout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record {
    /// The objective's value, before weight and reduction. Word 0.
    pub loss: f32,
    /// The target's log-probability. Word 1.
    pub log_p: f32,
    /// The log-sum-exp. Word 2.
    pub lse: f32,
    /// The entropy, nats. Word 3.
    pub entropy: f32,
    /// The class with the greatest logit; -1 if there is none. Word 4, i32.
    pub argmax: i32,
    /// 0 if the row is fine; see [`STATUS_NO_MASS`] and [`STATUS_BAD_TARGET`]. Word 5, u32.
    pub status: u32,
    /// Whether the row is valid and the objective kept it. Word 6, 0 or 1.
    pub kept: bool,
    /// `1 - p` of the target. Word 7.
    pub one_minus_p: f32,
    /// The greatest logit. Word 8.
    pub max: f32,
    /// `sum_j exp(z_j - max) - 1`. Word 9.
    pub tail: f32,
    /// `sum_j exp(z_j - max) (z_j - max)`. Word 10.
    pub moment: f32,
    /// `sum_j exp(z_j - max)^2`. Words 11 to 14 are 0 where the objective does not look at them.
    pub collision: f32,
    /// `sum_j (z_j - max)` over the logits that have mass. Word 12.
    pub spread: f32,
    /// `sum_j z_j^2` over the same. Word 13.
    pub energy: f32,
    /// Logits that have mass. Word 14, u32.
    pub count: u32,
    /// The loss's derivative by the target's logit, before weight and reduction. Word 15.
    pub d_target: f32,
    /// By the log-sum-exp. Word 16.
    pub d_lse: f32,
    /// By the entropy. Word 17.
    pub d_entropy: f32,
    /// By the mean of the logits that have mass. Word 18.
    pub d_mean: f32,
    /// By the energy. Word 19.
    pub d_energy: f32,
    /// The target's logit. Word 20.
    pub target_logit: f32,
    /// In the linear form: until the row is judged, whether its target was seen; later, whether the row was pushed back. Of a
    /// pair: whether the row, with its weight, has a gradient. Word 21, 0 or 1.
    pub live: bool,
}

impl Record {
    /// From the words.
    pub fn from_words(words: &[u32; RECORD_WORDS]) -> Self {
        let float = |at: usize| f32::from_bits(words[at]);
        Self {
            loss: float(0),
            log_p: float(1),
            lse: float(2),
            entropy: float(3),
            argmax: words[4] as i32,
            status: words[5],
            kept: words[6] != 0,
            one_minus_p: float(7),
            max: float(8),
            tail: float(9),
            moment: float(10),
            collision: float(11),
            spread: float(12),
            energy: float(13),
            count: words[14],
            d_target: float(15),
            d_lse: float(16),
            d_entropy: float(17),
            d_mean: float(18),
            d_energy: float(19),
            target_logit: float(20),
            live: words[21] != 0,
        }
    }

    /// To the words.
    pub fn to_words(&self) -> [u32; RECORD_WORDS] {
        [
            self.loss.to_bits(),
            self.log_p.to_bits(),
            self.lse.to_bits(),
            self.entropy.to_bits(),
            self.argmax as u32,
            self.status,
            u32::from(self.kept),
            self.one_minus_p.to_bits(),
            self.max.to_bits(),
            self.tail.to_bits(),
            self.moment.to_bits(),
            self.collision.to_bits(),
            self.spread.to_bits(),
            self.energy.to_bits(),
            self.count,
            self.d_target.to_bits(),
            self.d_lse.to_bits(),
            self.d_entropy.to_bits(),
            self.d_mean.to_bits(),
            self.d_energy.to_bits(),
            self.target_logit.to_bits(),
            u32::from(self.live),
        ]
    }
}

/// The numbers of one dispatch, in the order of `struct Params` in `params.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Params {
    /// Rows of this dispatch.
    pub rows: u32,
    /// Classes.
    pub vocab: u32,
    /// Elements from one row to the next.
    pub stride: u32,
    /// Groups per line where groups are folded into two dimensions.
    pub grid_x: u32,
    /// The element of the first row inside the binding of the logits.
    pub logits_first: u32,
    /// The same for the gradient.
    pub dlogits_first: u32,
    /// The word of the first target inside its binding.
    pub targets_first: u32,
    /// The same for the weights.
    pub weights_first: u32,
    /// The same for the records.
    pub records_first: u32,
    /// The same for the totals.
    pub totals_first: u32,
    /// A sum of [`flag`]s.
    pub flags: u32,
    /// 0: `denominator` as given; 1: valid rows; 2: kept rows.
    pub denominator_kind: u32,
    /// The given denominator.
    pub denominator: f32,
    /// Its reciprocal.
    pub scale: f32,
    /// Where the columns of this dispatch begin in the whole vocabulary.
    pub column_first: u32,
    /// The whole vocabulary.
    pub classes: u32,
    /// The bound of the gradient's norm below which a row is not live.
    pub row_tolerance: f32,
    /// The scale of a logit map, unless rows have their own.
    pub link_scale: f32,
    /// Its margin, likewise.
    pub link_margin: f32,
    /// The bound of its softcap.
    pub link_cap: f32,
    /// The word of the first row's scale inside its binding.
    pub row_maps_first: u32,
    /// The word of the first row's classes inside the binding of the mask.
    pub mask_first: u32,
    /// Words from one row's classes to the next; 0 where all rows share them.
    pub mask_stride: u32,
    /// The element of the first row of the teacher, or of labels, inside its binding.
    pub teacher_first: u32,
    /// Elements from one of these rows to the next.
    pub teacher_stride: u32,
    /// The word of the first divergence, of the first class's weight, or of what belongs to the first listed column, inside its
    /// binding.
    pub side_first: u32,
    /// The objective's parameters, see [`parameters`](crate::parameters).
    pub objective: [f32; crate::MAX_SHADER_PARAMETERS],
    /// The parameters of the divergence, see [`divergence_parameters`](crate::divergence_parameters), or of the labels' objective,
    /// see [`label_parameters`](crate::label_parameters).
    pub divergence: [f32; MAX_PARAMETERS],
    /// The temperature of both rows, for the divergence alone.
    pub temperature: f32,
    /// What the divergence is multiplied by in the loss.
    pub divergence_factor: f32,
    /// What it is multiplied by in a logit's gradient.
    pub pull_factor: f32,
    /// What the objective is multiplied by.
    pub objective_weight: f32,
    /// The strength of a guidance, unless rows have their own.
    pub strength: f32,
    /// The word of the first row inside the binding of the strengths, or of the offsets of listed columns.
    pub rows_first: u32,
    /// The word of the first row inside the binding of what is gathered or of the states of pairs, or of the first entry inside
    /// that of the listed columns.
    pub lists_first: u32,
}

impl Params {
    /// Bytes of the uniform.
    pub const BYTES: usize = 4 * (28 + crate::MAX_SHADER_PARAMETERS + MAX_PARAMETERS + 8);

    /// The uniform's content.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let words = [
            self.rows,
            self.vocab,
            self.stride,
            self.grid_x,
            self.logits_first,
            self.dlogits_first,
            self.targets_first,
            self.weights_first,
            self.records_first,
            self.totals_first,
            self.flags,
            self.denominator_kind,
            self.denominator.to_bits(),
            self.scale.to_bits(),
            // WGSL has literals for neither.
            f32::NAN.to_bits() & 0x7fff_ffff,
            f32::NEG_INFINITY.to_bits(),
            self.column_first,
            self.classes,
            self.row_tolerance.to_bits(),
            self.link_scale.to_bits(),
            self.link_margin.to_bits(),
            self.link_cap.to_bits(),
            self.row_maps_first,
            self.mask_first,
            self.mask_stride,
            self.teacher_first,
            self.teacher_stride,
            self.side_first,
        ];
        let pair = [
            self.temperature,
            1.0 / self.temperature,
            self.divergence_factor,
            self.pull_factor,
            self.objective_weight,
        ];
        let more = [self.strength.to_bits(), self.rows_first, self.lists_first];
        let parameters = self.objective.into_iter().chain(self.divergence).chain(pair);
        bytes_of(words.into_iter().chain(parameters.map(f32::to_bits)).chain(more))
    }
}

fn bytes_of(words: impl Iterator<Item = u32>) -> [u8; Params::BYTES] {
    let mut bytes = [0; Params::BYTES];
    for (into, word) in bytes.chunks_exact_mut(4).zip(words) {
        into.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The numbers of one matrix product, in the order of `struct Params` in `product/params.wgsl`. Its uniform is as large
/// as that of [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProductParams {
    /// Columns of the product.
    pub columns: u32,
    /// Terms of each sum of logits and `dhidden`; rows of `dweight`.
    pub depth: u32,
    /// Groups per line where groups are folded into two dimensions.
    pub grid_x: u32,
    /// Elements of a hidden state.
    pub dim: u32,
    /// The element of the first row inside the binding of the hidden states.
    pub hidden_first: u32,
    /// The same for the weight.
    pub weight_first: u32,
    /// The same for the bias.
    pub bias_first: u32,
    /// The element of the tile that is the first row's first column.
    pub tile_first: u32,
    /// Elements of the tile from one row to the next.
    pub tile_stride: u32,
    /// The element of the output's first row inside its binding.
    pub out_first: u32,
    /// Whether there is a bias.
    pub bias: bool,
}

impl ProductParams {
    /// The uniform's content.
    pub fn to_bytes(&self) -> [u8; Params::BYTES] {
        let words = [
            self.columns,
            self.depth,
            self.grid_x,
            self.dim,
            self.hidden_first,
            self.weight_first,
            self.bias_first,
            self.tile_first,
            self.tile_stride,
            self.out_first,
            u32::from(self.bias),
        ];
        bytes_of(words.into_iter())
    }
}
