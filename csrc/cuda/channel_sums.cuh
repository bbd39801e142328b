// Sums over all pixels, channel by channel, in double and in one order.
#pragma once

#include "device_memory.cuh"

namespace mnist100::cuda {

template <int N>
struct Terms {
  double at[N];
};

constexpr int kRowsAtOnce = kBlock / kWarp;  // of a block: kWarp channels side by side
constexpr int kPixelsOfPart = 2048;

// Block part * groups + group of channels. term(pixel, channel) -> Terms<N>.
template <int N, class Term>
__global__ void __launch_bounds__(kBlock)
    sum_parts(int channels, int pixels, int groups, Term term, double* parts) {
  await_previous();
  __shared__ double shared[kRowsAtOnce][N][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = static_cast<int>(threadIdx.x) / kWarp;
  const int part = static_cast<int>(blockIdx.x) / groups, from = part * kPixelsOfPart;
  const int channel = static_cast<int>(blockIdx.x) % groups * kWarp + lane;
  const int to = from + kPixelsOfPart < pixels ? from + kPixelsOfPart : pixels;
  Terms<N> sums = {};
  if (channel < channels)
    for (int pixel = from + row; pixel < to; pixel += kRowsAtOnce) {
      const Terms<N> one = term(pixel, channel);
      for (int i = 0; i < N; ++i) sums.at[i] += one.at[i];
    }
  for (int i = 0; i < N; ++i) shared[row][i][lane] = sums.at[i];
  __syncthreads();
  if (row > 0 || channel >= channels) return;
  for (int i = 0; i < N; ++i) {
    double sum = 0;
    for (int r = 0; r < kRowsAtOnce; ++r) sum += shared[r][i][lane];
    parts[(static_cast<int64_t>(part) * N + i) * channels + channel] = sum;
  }
}

template <int N, class Finish>
__global__ void finish_sums(int channels, int count, const double* parts, Finish finish) {
  await_previous();
  const int channel = element();
  if (channel >= channels) return;
  Terms<N> sums = {};
  for (int part = 0; part < count; ++part)
    for (int i = 0; i < N; ++i)
      sums.at[i] += parts[(static_cast<int64_t>(part) * N + i) * channels + channel];
  finish(channel, sums);
}

// finish(channel, sums of its terms), once for every channel.
template <int N, class Term, class Finish>
void sum_channels(int channels, int pixels, Term term, Finish finish, cudaStream_t stream) {
  const int count = ceil_div(pixels, kPixelsOfPart), groups = ceil_div(channels, kWarp);
  Buffer<double> parts(int64_t{count} * N * channels, stream);
  const dim3 grid(static_cast<unsigned>(groups) * static_cast<unsigned>(count));
  launch(sum_parts<N, Term>, grid, dim3(kBlock), stream, channels, pixels, groups, term, parts.get());
  launch_elements(finish_sums<N, Finish>, channels, stream, channels, count,
                  static_cast<const double*>(parts.get()), finish);
}

}  // namespace mnist100::cuda
