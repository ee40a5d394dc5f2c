// The numbers of one dispatch. Every dispatch has its own copy, since a uniform that is rewritten between
// recorded dispatches shows all of them the last value.

struct Params {
  rows: u32,             // of this dispatch
  vocab: u32,
  stride: u32,           // elements
  grid_x: u32,           // groups per line of the fold
  logits_first: u32,     // element of the first row inside its binding
  dlogits_first: u32,
  targets_first: u32,    // word
  weights_first: u32,
  records_first: u32,
  totals_first: u32,
  flags: u32,
  denominator_kind: u32,
  denominator: f32,      // of DENOMINATOR_GIVEN, and
  scale: f32,            // its reciprocal
  nan: u32,              // the bits of a NaN and
  neg_infinity: u32,     // of -infinity, which WGSL has no literals for
  column_first: u32,     // of the whole vocabulary: where the columns of this dispatch begin
  classes: u32,          // the whole vocabulary
  row_tolerance: f32,
  link_scale: f32,       // of all rows, and
  link_margin: f32,      // unless they have their own
  link_cap: f32,
  row_maps_first: u32,
  mask_first: u32,
  mask_stride: u32,      // words from one row's classes to the next; 0 where all rows share them
  teacher_first: u32,    // element of the first row of the teacher, or of labels, inside its binding
  teacher_stride: u32,   // elements
  side_first: u32,       // word of the divergences, of the classes' weights, or of what belongs to listed columns
  objective: array<vec4<f32>, 6>,
  divergence: vec4<f32>,
  temperature: f32,      // of both rows, for the divergence alone, and
  inverse_temperature: f32,
  divergence_factor: f32,  // of the loss
  pull_factor: f32,        // of a logit's gradient
  objective_weight: f32,
  strength: f32,           // of the guidance of all rows, unless they have their own
  rows_first: u32,         // word of the strengths, or of the offsets of listed columns
  lists_first: u32,        // word of what is gathered of rows, of the listed columns, or of the states of pairs
}

const FLAG_WEIGHTS = 1u;       // rows have weights
const FLAG_SCALE = 2u;         // gradients are multiplied by weight and by the scale in the totals
const FLAG_FIRST = 4u;         // totals start from 0
const FLAG_JUDGED = 8u;        // records hold losses
const FLAG_LIVE = 16u;         // records know whether their row is live
const FLAG_NAN_ROWS = 32u;     // bad rows are live
const FLAG_ROW_MAPS = 64u;     // rows have a scale and a margin of their own
const FLAG_MASK = 128u;        // only some classes are allowed
const FLAG_STRENGTHS = 256u;   // rows have a strength of guidance of their own
const FLAG_CLASS_WEIGHTS = 512u;
const FLAG_GATHER = 1024u;     // what is taken is kept

const DENOMINATOR_GIVEN = 0u;
const DENOMINATOR_VALID = 1u;
const DENOMINATOR_KEPT = 2u;

@group(0) @binding(0) var<uniform> params: Params;

// All storage is `read_write`, because a caller's allocator may have put several of these in one buffer.
@group(0) @binding(2) var<storage, read_write> targets: array<i32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> records: array<u32>;
@group(0) @binding(6) var<storage, read_write> totals: array<u32>;
@group(0) @binding(14) var<storage, read_write> row_maps: array<f32>;   // [rows, 2]: scale and margin; gathered, more

override WG: u32 = 256u;

// The row of a workgroup: groups are folded into two dimensions.
fn row_of(group: vec3<u32>) -> u32 {
  return group.y * params.grid_x + group.x;
}

fn parameter(i: u32) -> f32 {
  return params.objective[i / 4u][i % 4u];
}

fn nan() -> f32 {
  return bitcast<f32>(params.nan);
}

fn weight_of(row: u32) -> f32 {
  if ((params.flags & FLAG_WEIGHTS) == 0u) {
    return 1.0;
  }
  return weights[params.weights_first + row];
}

// Scale and margin of a row's map, so many words from those of the next.
fn row_numbers(row: u32, words: u32) -> vec2<f32> {
  if ((params.flags & FLAG_ROW_MAPS) == 0u) {
    return vec2<f32>(params.link_scale, params.link_margin);
  }
  let at = params.row_maps_first + words * row;
  return vec2<f32>(row_maps[at], row_maps[at + 1u]);
}

// The part of the scale that says whether a row is live: where partials are used as they are, nothing.
fn weight_if_scaled(row: u32) -> f32 {
  if ((params.flags & FLAG_SCALE) == 0u) {
    return 1.0;
  }
  return weight_of(row);
}

// What a row's partials are multiplied by.
fn scale_of(row: u32) -> f32 {
  if ((params.flags & FLAG_SCALE) == 0u) {
    return 1.0;
  }
  return weight_of(row) * bitcast<f32>(totals[params.totals_first + TOTAL_SCALE]);
}

// Words of the totals.
const TOTAL_LOSS_SUM = 0u;
const TOTAL_WEIGHT_SUM = 1u;
const TOTAL_VALID = 2u;
const TOTAL_KEPT = 3u;
const TOTAL_IGNORED = 4u;
const TOTAL_DENOMINATOR = 5u;
const TOTAL_SCALE = 6u;
const TOTAL_BAD = 7u;         // rows whose loss is NaN
const TOTAL_LIVE = 8u;
const TOTAL_WORDS = 9u;
