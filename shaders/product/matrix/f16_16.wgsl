enable f16;
enable wgpu_cooperative_matrix;

// Matrices of 16 x 16: operands in f16, sums in f32.

alias Operand = f16;
alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;

const T = 16u;
const MATRICES = 4;   // of 16 rows and SIDE columns
const BEYOND = 0x477ff000u;   // bits of 65,520, which rounds to infinity
