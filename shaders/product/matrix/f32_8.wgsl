enable wgpu_cooperative_matrix;

// Matrices of 8 x 8: operands in f32, sums in f32.

alias Operand = f32;
alias MatrixA = coop_mat8x8<f32, A>;
alias MatrixB = coop_mat8x8<f32, B>;
alias MatrixC = coop_mat8x8<f32, C>;

const T = 8u;
const MATRICES = 16;   // of 16 rows and SIDE columns
const BEYOND = 0x7f800000u;   // no finite number
