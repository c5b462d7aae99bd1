// Per-element mathematics shared by the CPU loops and the CUDA kernels, so that tests on a machine
// without a GPU exercise it. Written as a*b+c (contracted to FMA where the level has it): a call of
// std::fma would reach the C library on the baseline. See NOTE [No inline library code in kernels].
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SD_MATH static __host__ __device__ __forceinline__
#else
#define SD_MATH static inline __attribute__((always_inline))
#endif

namespace smoothdistill {

// (1 - weight) * start + weight * end, in the form that torch.lerp uses: equal ends stay bitwise
// equal, and the result is exact at weight 0 and 1 for finite ends.
template <class T>
SD_MATH T lerp(T start, T end, T weight) {
  const T difference = end - start;
  return weight < T(0.5) ? start + weight * difference : end - (T(1) - weight) * difference;
}

// The compiler's built-ins on the host (no C++ library in a kernel), CUDA's functions on the
// device.
#if defined(__CUDA_ARCH__)
SD_MATH float square_root(float x) { return sqrtf(x); }
SD_MATH double square_root(double x) { return sqrt(x); }
SD_MATH double power(double base, double exponent) { return pow(base, exponent); }
#else
SD_MATH float square_root(float x) { return __builtin_sqrtf(x); }
SD_MATH double square_root(double x) { return __builtin_sqrt(x); }
SD_MATH double power(double base, double exponent) { return __builtin_pow(base, exponent); }
#endif

// bfloat16 is the upper half of a float32.
SD_MATH float bfloat16_to_float(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

// Exact for every float16, subnormals and infinities included: the bits are those of a float32
// whose exponent is too small by 127 - 15, which one multiplication mends.
SD_MATH float float16_to_float(std::uint16_t bits) {
  const std::uint32_t magnitude = (bits & 0x7fffU) << 13;
  const float value = __builtin_bit_cast(float, magnitude) * 0x1p112F;
  const std::uint32_t special = magnitude >= 0x0f800000U ? 0x7f800000U : 0U;  // infinity or NaN
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, value) | special | sign);
}

// Rounded to the nearest, ties to even; a NaN stays one.
SD_MATH std::uint16_t float_to_bfloat16(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40U;
  return static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
}

// The same, down to subnormals: there adding 0.5 moves the last bit of a float16 to that of a
// float.
SD_MATH std::uint16_t float_to_float16(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const float shifted = __builtin_bit_cast(float, magnitude) + 0.5F;
  const std::uint32_t small = __builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000U;
  const std::uint32_t normal = (magnitude - 0x37fff001U + ((magnitude >> 13) & 1U)) >> 13;
  const std::uint32_t large = magnitude > 0x7f800000U ? 0x7e00U : 0x7c00U;
  const std::uint32_t value = magnitude >= 0x47800000U  ? large
                              : magnitude < 0x38800000U ? small
                                                        : normal;
  return static_cast<std::uint16_t>(value | ((bits >> 16) & 0x8000U));
}

// What weights are stored as beside a float teacher.
struct Bfloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

SD_MATH float widen(float x) { return x; }
SD_MATH double widen(double x) { return x; }
SD_MATH float widen(Bfloat16 x) { return bfloat16_to_float(x.bits); }
SD_MATH float widen(Float16 x) { return float16_to_float(x.bits); }
SD_MATH void narrow(float x, float& to) { to = x; }
SD_MATH void narrow(double x, double& to) { to = x; }
SD_MATH void narrow(float x, Bfloat16& to) { to.bits = float_to_bfloat16(x); }
SD_MATH void narrow(float x, Float16& to) { to.bits = float_to_float16(x); }

// exp(x) for x <= 0 or NaN. float: at most 2 ulp from -87.3 on, 0 below, NaN for NaN; no call and
// no branch, so that every compiler vectorises it. Range reduction by Cody and Waite with
// r = x - n ln 2, |r| <= ln 2 / 2, then the degree-6 polynomial of Cephes' expf.
SD_MATH float exponential_of_negative(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  const float clamped = x < -87.33F ? -87.33F : x;
  const float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const float shifted = clamped * 1.44269504F + magic;
  const float n = shifted - magic;
  const float r = (clamped - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  // 2^n, n >= -126. n is also in the low bits of `shifted`; a NaN must not be made an integer.
  const std::uint32_t exponent = __builtin_bit_cast(std::uint32_t, shifted) + 127U;
  const float scaled = p * __builtin_bit_cast(float, exponent << 23);
  return x < -87.33F ? 0.0F : scaled;
#endif
}
SD_MATH double exponential_of_negative(double x) {
#if defined(__CUDA_ARCH__)
  return exp(x);
#else
  return __builtin_exp(x);
#endif
}

// log(x) for a normal positive x (here: sums of exponentials, at least 1), NaN for NaN, +inf for
// +inf. float: at most 2 ulp; x = m 2^e with m in [sqrt(1/2), sqrt(2)), Cephes' logf polynomial.
SD_MATH float logarithm(float x) {
#if defined(__CUDA_ARCH__)
  return logf(x);
#else
  const std::int32_t bits = __builtin_bit_cast(std::int32_t, x);
  const std::int32_t shifted = bits - 0x3f3504f3;  // the bits of sqrt(1/2)
  const std::int32_t e = shifted >> 23;
  const float m = __builtin_bit_cast(float, (shifted & 0x007fffff) + 0x3f3504f3) - 1.0F;
  float p = 7.0376836292e-2F;
  p = p * m + -1.1514610310e-1F;
  p = p * m + 1.1676998740e-1F;
  p = p * m + -1.2420140846e-1F;
  p = p * m + 1.4249322787e-1F;
  p = p * m + -1.6668057665e-1F;
  p = p * m + 2.0000714765e-1F;
  p = p * m + -2.4999993993e-1F;
  p = p * m + 3.3333331174e-1F;
  const float exponent = static_cast<float>(e);
  const float square = m * m;
  const float value =
      (p * m * square + exponent * -2.12194440e-4F - 0.5F * square + m) + exponent * 0.693359375F;
  return x - x == 0.0F ? value : x;  // inf and NaN pass through
#endif
}
SD_MATH double logarithm(double x) {
#if defined(__CUDA_ARCH__)
  return log(x);
#else
  return __builtin_log(x);
#endif
}

// What one Adam step needs besides the tensors; the bias corrections are computed once, in double.
template <class T>
struct AdamFactors {
  T gradient_factor;       // clip_factor / grad_scale
  T coupled_weight_decay;  // Adam: added to the gradient, times the weight
  T weight_factor;         // AdamW: 1 - lr * weight_decay, else 1
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T step_size;      // lr / (1 - beta1^step)
  T second_factor;  // 1 / sqrt(1 - beta2^step)
  T eps;
};

// One element of Adam or AdamW; see csrc/adam_ema.h for the formula.
template <class T>
SD_MATH void adam_element(T& weight, T gradient, T& exp_avg, T& exp_avg_sq,
                          const AdamFactors<T>& f) {
  const T decayed = weight * f.weight_factor;
  const T g = gradient * f.gradient_factor + f.coupled_weight_decay * decayed;
  const T first = lerp(exp_avg, g, f.one_minus_beta1);
  const T second = f.beta2 * exp_avg_sq + f.one_minus_beta2 * (g * g);
  exp_avg = first;
  exp_avg_sq = second;
  weight = decayed - f.step_size * first / (square_root(second) * f.second_factor + f.eps);
}

}  // namespace smoothdistill
