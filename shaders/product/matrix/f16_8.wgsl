enable f16;
enable wgpu_cooperative_matrix;

// Matrices of 8 x 8: operands in f16, sums in f32.

alias Operand = f16;
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;

const T = 8u;
const MATRICES = 16;   // of 16 rows and SIDE columns
const BEYOND = 0x477ff000u;   // bits of 65,520, which rounds to infinity
