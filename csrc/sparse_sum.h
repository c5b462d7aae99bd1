// Sums of few of many vectors: for the gradient of conv_pool, most of whose factors are 0. Included
// by csrc/cpu/*.cpp only, in the level's own namespace (NOTE [No inline library code in kernels]).
#pragma once

#include <cstdint>

#include "vector.h"

#if defined(__AVX512VL__) && defined(__AVX512BW__)
#include <immintrin.h>
#define SD_HAS_COMPRESS
#endif

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

// The gradients that get through, as a list: factors, and where the vectors to add lie from a base.
// Whether one gets through cannot be foreseen, so there is no branch on it.
struct Terms {
  static constexpr std::int64_t kMost = 256;
  static constexpr std::int64_t kAtOnce = 16;
  std::int32_t offsets[kMost + kAtOnce];
  float factors[kMost + kAtOnce];
  std::int64_t size = 0;

#if defined(SD_HAS_COMPRESS)
  SD_INLINE void add(__m512 factor, __m128i choice, __m512i offset, __mmask16 exists) {
    const __mmask16 passes = static_cast<__mmask16>(
        _mm512_mask_cmp_ps_mask(exists, factor, _mm512_setzero_ps(), _CMP_NEQ_UQ) &
        _mm_cmpneq_epi8_mask(choice, _mm_set1_epi8(2)));
    _mm512_storeu_si512(offsets + size, _mm512_maskz_compress_epi32(passes, offset));
    _mm512_storeu_ps(factors + size, _mm512_maskz_compress_ps(passes, factor));
    size += __builtin_popcount(passes);
  }

  static SD_INLINE __m512i sequence() {
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  }
#else
  // `shift` is added where `choice` is `shifted`. `end` is where `size` is to be: kept by the
  // caller, in a register.
  SD_INLINE void add(float factor, std::uint8_t choice, std::int64_t offset, std::int64_t shift,
                     std::uint8_t shifted, std::int64_t& end) {
    const std::int64_t mask = -static_cast<std::int64_t>(choice == shifted);  // no branch
    offsets[end] = static_cast<std::int32_t>(offset + (shift & mask));
    factors[end] = factor;
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, factor) & 0x7FFFFFFFU;
    end += static_cast<std::int64_t>(bits != 0) & static_cast<std::int64_t>(choice != 2);
  }
#endif

  // `count` neighbours, at most 16, whose offsets grow by `stride`, and by `shift` where the first
  // of the pair was chosen.
  SD_INLINE void add_row(const float* from, const std::uint8_t* choice, std::int64_t count,
                         std::int64_t stride, std::int64_t shift) {
#if defined(SD_HAS_COMPRESS)
    const auto exists = static_cast<__mmask16>((1U << count) - 1U);
    const __m128i choices = _mm_maskz_loadu_epi8(exists, choice);
    const __m512i places =
        _mm512_mullo_epi32(sequence(), _mm512_set1_epi32(static_cast<int>(stride)));
    const __mmask16 is_first = _mm_cmpeq_epi8_mask(choices, _mm_setzero_si128());
    add(_mm512_maskz_loadu_ps(exists, from), choices,
        _mm512_mask_add_epi32(places, is_first, places, _mm512_set1_epi32(static_cast<int>(shift))),
        exists);
#else
    std::int64_t end = size;
    for (std::int64_t i = 0; i < count; ++i) add(from[i], choice[i], i * stride, shift, 0, end);
    size = end;
#endif
  }

  // Four windows of `count` rows, at most 4, that lie `columns` apart: offsets grow by `stride`
  // from window to window and by `step` from row to row, and by `shift` where the second of the
  // pair was chosen.
  SD_INLINE void add_block(const float* from, const std::uint8_t* choice, std::int64_t columns,
                           std::int64_t count, std::int64_t first, std::int64_t stride,
                           std::int64_t step, std::int64_t shift) {
#if defined(SD_HAS_COMPRESS)
    alignas(64) float factors_of[16];
    alignas(16) std::uint8_t choices_of[16];
    for (std::int64_t row = 0; row < count; ++row) {
      __builtin_memcpy(factors_of + 4 * row, from + row * columns, 4 * sizeof(float));
      __builtin_memcpy(choices_of + 4 * row, choice + row * columns, 4);
    }
    const auto exists = static_cast<__mmask16>((1U << (4 * count)) - 1U);
    const __m128i choices = _mm_maskz_loadu_epi8(exists, choices_of);
    const __m512i window = _mm512_and_si512(sequence(), _mm512_set1_epi32(3));
    const __m512i row = _mm512_srli_epi32(sequence(), 2);
    const __m512i places = _mm512_add_epi32(
        _mm512_set1_epi32(static_cast<int>(first)),
        _mm512_add_epi32(_mm512_mullo_epi32(window, _mm512_set1_epi32(static_cast<int>(stride))),
                         _mm512_mullo_epi32(row, _mm512_set1_epi32(static_cast<int>(step)))));
    const __mmask16 is_second = _mm_cmpeq_epi8_mask(choices, _mm_set1_epi8(1));
    add(_mm512_maskz_loadu_ps(exists, factors_of), choices,
        _mm512_mask_add_epi32(places, is_second, places,
                              _mm512_set1_epi32(static_cast<int>(shift))),
        exists);
#else
    std::int64_t end = size;
    for (std::int64_t row = 0; row < count; ++row) {
      SD_UNROLL for (std::int64_t w = 0; w < 4; ++w) {
        const std::int64_t at = row * columns + w;
        add(from[at], choice[at], first + row * step + w * stride, shift, 1, end);
      }
    }
    size = end;
#endif
  }
};

// sum[0, Size vectors) += factor * vector of all terms. The sums stay in registers: stored after
// every term, they would be mistaken for the vectors that are read (equal low address bits).
template <int Size>
void add_terms_to(const Terms& terms, const float* base, std::int64_t first, float* sum) {
  // Few sums would wait for each other: they get twins.
  constexpr int kTwins = Size <= 2 ? 4 : Size <= 5 ? 2 : 1;
  Vector sums[kTwins][Size] = {};
  std::int64_t i = 0;
  const auto add = [&](int twin) __attribute__((always_inline)) {
    const Vector factor = broadcast(terms.factors[i]);
    const float* vector = base + terms.offsets[i] + first;
    SD_KEEP_POINTER(vector);
    add_products_of(vector, factor, sums[twin]);
    ++i;
  };
  if constexpr (kTwins == 4) {
    while (i + 4 <= terms.size) add(0), add(1), add(2), add(3);
  } else if constexpr (kTwins == 2) {
    while (i + 2 <= terms.size) add(0), add(1);
  }
  while (i < terms.size) add(0);
  SD_UNROLL for (int v = 0; v < Size; ++v) {
    float* at = sum + first + v * kLanes;
    Vector value = load(at);
    SD_UNROLL for (int twin = 0; twin < kTwins; ++twin) value += sums[twin][v];
    store(at, value);
  }
}

constexpr std::int64_t kMostSums = kHasManyRegisters ? 20 : 12;

template <int Size>
constexpr auto kAddTerms = add_terms_to<(Size <= kMostSums ? Size : kMostSums)>;

SD_INLINE void add_terms(const Terms& terms, const float* base, float* sum, std::int64_t length) {
  constexpr void (*kBySize[])(const Terms&, const float*, std::int64_t, float*) = {
      kAddTerms<1>,  kAddTerms<1>,  kAddTerms<2>,  kAddTerms<3>,  kAddTerms<4>,  kAddTerms<5>,
      kAddTerms<6>,  kAddTerms<7>,  kAddTerms<8>,  kAddTerms<9>,  kAddTerms<10>, kAddTerms<11>,
      kAddTerms<12>, kAddTerms<13>, kAddTerms<14>, kAddTerms<15>, kAddTerms<16>, kAddTerms<17>,
      kAddTerms<18>, kAddTerms<19>, kAddTerms<20>};
  std::int64_t left = length / kLanes;
  std::int64_t parts = (left + kMostSums - 1) / kMostSums;
  for (std::int64_t first = 0; parts > 0; --parts) {
    const std::int64_t size = (left + parts - 1) / parts;
    kBySize[size](terms, base, first, sum);
    first += size * kLanes;
    left -= size;
  }
}

}  // namespace
}  // namespace smoothdistill::cpu::SD_LEVEL
