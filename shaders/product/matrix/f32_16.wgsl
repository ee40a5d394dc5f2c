enable wgpu_cooperative_matrix;

// Matrices of 16 x 16: operands in f32, sums in f32.

alias Operand = f32;
alias MatrixA = coop_mat16x16<f32, A>;
alias MatrixB = coop_mat16x16<f32, B>;
alias MatrixC = coop_mat16x16<f32, C>;

const T = 16u;
const MATRICES = 4;   // of 16 rows and SIDE columns
const BEYOND = 0x7f800000u;   // no finite number
