// What products are made with: fp32, or tensor cores on operands rounded to TF32 or bfloat16, their sums in
// fp32 in all three.
#pragma once

namespace mnist100::cuda {

enum class Precision { kFp32, kTf32, kBf16 };

}  // namespace mnist100::cuda
