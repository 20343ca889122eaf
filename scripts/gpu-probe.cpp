// Every kernel of one library against the same kernel of another, byte for byte, on odd sizes: liblpld_kernels.so on a card
// against its emulation on the host, whose arithmetic is the same. No torch: what differs here is ours. Outputs start as
// other bytes on either side, so that a value no thread wrote differs too; buffers are as large as what they hold, so that
// compute-sanitizer (on a card) or AddressSanitizer (on the host) sees a step outside.
//   probe KERNELS.so EMULATION.so [quick]    "-" is what the program is linked with; a line of JSON a case; exit code 1 where
//                                            any differs. Compiled by scripts/gpu-probe.mjs and test/kernel-probe.test.ts.
#include "gpu-probe.h"

#include <dlfcn.h>

#include <functional>

namespace {

std::vector<std::unique_ptr<Side>> g_sides;
int g_cases = 0, g_wrong = 0;

// Runs `work` on both sides from the same draws and compares.
void compare(const std::string& name, const std::function<int(Side&)>& work) {
  const uint32_t seed = g_state;
  g_case = name;
  std::vector<std::vector<std::vector<unsigned char>>> results;
  for (const auto& like : g_sides) {
    g_state = seed;
    Side side(like->table, like.get() == g_sides[0].get() ? 0xff : 0x00);
    check(work(side), "launched");
    results.push_back(side.results());
  }
  int64_t off = 0, bytes = 0;
  for (size_t i = 0; i < results[0].size(); ++i) {
    bytes += int64_t(results[0][i].size());
    for (size_t k = 0; k < results[0][i].size(); ++k) off += results[0][i][k] != results[1][i][k];
  }
  ++g_cases;
  g_wrong += off > 0;
  std::printf("{\"case\": \"%s\", \"bytes\": %lld, \"differ\": %lld}\n", name.c_str(), (long long)bytes,
              (long long)off);
  std::fflush(stdout);
}

template <class T>
std::vector<T> values(int64_t count);
template <>
std::vector<float> values(int64_t count) {
  return floats(count);
}
template <>
std::vector<uint16_t> values(int64_t count) {
  return halves(count);
}

template <class T>
void norm_act(int64_t groups, int64_t rows, int64_t channels, bool moments, bool residual, bool relu) {
  const bool half = sizeof(T) == 2;
  const std::string name = (half ? "norm_act bf16 " : "norm_act f32 ") + std::to_string(groups) + "x" +
                           std::to_string(rows) + "x" + std::to_string(channels) + (moments ? " moments" : "") +
                           (residual ? " residual" : "") + (relu ? " relu" : "");
  const int64_t all = groups * rows * channels, each = groups * channels;
  compare(name, [&](Side& s) {
    lpld::NormForwardArgs a{};
    a.x = s.in(values<T>(all));
    a.residual = residual ? s.in(values<T>(all)) : nullptr;
    a.y = s.out<T>(all);
    a.scale = s.in(floats(channels));
    a.shift = s.in(floats(channels));
    a.center = s.in(floats(channels));
    if (moments) {
      a.mean = s.out<double>(each);
      a.variance = s.out<double>(each);
      a.partial = s.scratch<double>(groups * s.table.norm_chunks(rows, channels) * 2 * channels);
    }
    a.groups = groups, a.rows = rows, a.channels = channels, a.half = half, a.relu = relu;
    return s.table.norm_forward(a, nullptr);
  });
  if (!moments) return;
  compare(name + " backward", [&](Side& s) {
    lpld::NormBackwardArgs a{};
    a.dy = s.in(values<T>(all));
    a.x = s.in(values<T>(all));
    a.y = s.in(values<T>(all));
    a.dx = s.out<T>(all);
    a.dresidual = residual ? s.out<T>(all) : nullptr;
    a.scale = s.in(floats(channels));
    a.center = s.in(floats(channels));
    a.mean = s.in(doubles(each));
    a.dmean = s.in(doubles(each));
    a.dvariance = s.in(doubles(each));
    a.groups = groups, a.rows = rows, a.channels = channels, a.half = half, a.relu = relu;
    return s.table.norm_backward(a, nullptr);
  });
}

void match(int64_t groups, int64_t channels) {
  const int64_t each = groups * channels;
  const std::string name = "bn_match " + std::to_string(groups) + "x" + std::to_string(channels);
  for (const bool backward : {false, true})
    compare(name + (backward ? " backward" : ""), [&](Side& s) {
      lpld::MatchArgs a{};
      a.mean = s.in(doubles(each));
      a.variance = s.in(doubles(each));
      a.target_mean = s.in(floats(each));
      a.target_variance = s.in(floats(each));
      a.groups = groups, a.channels = channels;
      if (!backward) {
        a.distance = s.out<double>(groups);
        a.norms = s.out<double>(2 * groups);
        return s.table.match_forward(a, nullptr);
      }
      std::vector<double> norms = doubles(2 * groups, 0.5f, 3);
      norms[0] = 0;  // a zero norm has gradient zero
      a.norms = s.in(norms);
      a.ddistance = s.in(doubles(groups));
      a.dmean = s.out<double>(each);
      a.dvariance = s.out<double>(each);
      return s.table.match_backward(a, nullptr);
    });
}

void crop(int64_t groups, int64_t images, int64_t channels, int64_t size, int64_t step) {
  const int64_t steps = 3, all = groups * images * channels * size * size;
  const std::string name = "crop_flip_roll " + std::to_string(groups) + "x" + std::to_string(images) + "x" +
                           std::to_string(channels) + " of " + std::to_string(size) + " px, draw " +
                           std::to_string(step);
  for (const bool backward : {false, true})
    compare(name + (backward ? " backward" : ""), [&](Side& s) {
      std::vector<int32_t> box, by;
      std::vector<uint8_t> flip;
      for (int64_t i = 0; i < steps * groups; ++i) {
        const int64_t height = 1 + below(size), width = 1 + below(size);
        for (const int64_t v : {below(size - height + 1), below(size - width + 1), height, width})
          box.push_back(int32_t(v));
        flip.push_back(uint8_t(below(2)));
        for (int k = 0; k < 2; ++k) by.push_back(int32_t(below(4 * size) - 2 * size));
      }
      lpld::CropArgs a{};
      a.from = s.in(floats(all));
      a.to = s.out<float>(all);
      a.crop = s.in(box);
      a.flip = s.in(flip);
      a.roll = s.in(by);
      a.step = s.in(std::vector<int64_t>{step});
      a.groups = groups, a.images = images, a.channels = channels, a.size = size;
      return backward ? s.table.crop_backward(a, nullptr) : s.table.crop_forward(a, nullptr);
    });
}

void adam(int64_t images, int64_t channels, int64_t plane) {
  const int64_t all = images * channels * plane;
  const std::string name =
      "pixel_adam " + std::to_string(images) + "x" + std::to_string(channels) + "x" + std::to_string(plane);
  compare(name, [&](Side& s) {
    lpld::PixelAdamArgs a{};
    a.x = s.in_place(floats(all));
    a.m = s.in_place(floats(all, -1, 1));
    a.v = s.in_place(floats(all, 0, 1));
    a.grad = s.in(floats(all));
    a.table = s.in(std::vector<double>{9, 9, 0.1, 0.7});
    a.step = s.in(std::vector<int64_t>{1});
    a.low = s.in(floats(channels, -1, 0));
    a.high = s.in(floats(channels, 0, 1));
    a.count = all, a.channels = channels, a.plane = plane, a.beta1 = 0.5, a.beta2 = 0.9, a.eps = 1e-8;
    return s.table.pixel_adam(a, nullptr);
  });
}

void record(int64_t groups, int64_t layers) {
  compare("record " + std::to_string(groups) + " groups, " + std::to_string(layers) + " layers", [&](Side& s) {
    lpld::RecordArgs a{};
    a.ce = s.in(floats(groups));
    a.bn = s.in(doubles(groups));
    a.layers = s.in(doubles(layers));
    a.loss_ce = s.in_place(std::vector<double>(3 * groups));
    a.loss_bn = s.in_place(std::vector<double>(3 * groups));
    a.loss_layers = s.in_place(std::vector<double>(3 * layers));
    a.step = s.in_place(std::vector<int64_t>{1});
    a.groups = groups, a.layers_count = layers;
    return s.table.record(a, nullptr);
  });
}

void render(int64_t batch, int64_t size, int64_t channels) {
  const std::string name = "render " + std::to_string(batch) + " to " + std::to_string(size) + " px, " +
                           std::to_string(channels) + " channels";
  compare(name, [&](Side& s) {
    const std::vector<std::pair<int64_t, int64_t>> sides{{7, 9}, {33, 28}, {size, size}, {64, 300}, {1, 1}};
    std::vector<int64_t> offset;
    std::vector<int32_t> shape, index, crop, cutout, partner, box;
    std::vector<uint8_t> flip, color, kind;
    int64_t bytes = 0;
    for (const auto& [height, width] : sides) {
      offset.push_back(bytes);
      shape.push_back(int32_t(height)), shape.push_back(int32_t(width));
      bytes += height * width * channels;
    }
    std::vector<uint8_t> pixels(bytes);
    for (uint8_t& p : pixels) p = uint8_t(draw() >> 24);
    const auto boxed = [&](std::vector<int32_t>& boxes) {
      const int64_t height = below(size + 1), width = below(size + 1);
      for (const int64_t v : {below(size - height + 1), below(size - width + 1), height, width})
        boxes.push_back(int32_t(v));
    };
    for (int64_t i = 0; i < batch; ++i) {
      const auto image = size_t(below(int64_t(sides.size())));
      const auto [height, width] = sides[image];
      index.push_back(int32_t(image));
      const bool whole = below(3) == 0;
      const int64_t h = whole ? height : 1 + below(height), w = whole ? width : 1 + below(width);
      for (const int64_t v : {below(height - h + 1), below(width - w + 1), h, w}) crop.push_back(int32_t(v));
      flip.push_back(uint8_t(below(2)));
      boxed(cutout);
      boxed(box);
      for (int k = 0; k < 3; ++k) color.push_back(uint8_t(draw() >> 24));
      kind.push_back(uint8_t(below(3)));
      partner.push_back(int32_t(below(batch)));
    }
    const size_t all = size_t(batch * size * size * channels);
    lpld::RenderArgs a{};
    a.pixels = s.in(pixels), a.image_offset = s.in(offset), a.image_size = s.in(shape), a.index = s.in(index);
    a.crop = s.in(crop), a.flip = s.in(flip), a.cutout = s.in(cutout), a.cutout_color = s.in(color);
    a.mix_kind = s.in(kind), a.mix_index = s.in(partner), a.mix_box = s.in(box);
    a.plain = s.out<uint8_t>(all), a.mixed = s.out<uint8_t>(all);
    a.batch = batch, a.size = size, a.channels = channels;
    return s.table.render(a, nullptr);
  });
}

const KernelTable& table_of(const char* path) {
  void* library = dlopen(std::strcmp(path, "-") == 0 ? nullptr : path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(dlerror());
  const auto entry = reinterpret_cast<decltype(&lpld_kernels_v2)>(dlsym(library, "lpld_kernels_v2"));
  if (entry == nullptr) fail(std::string("no lpld_kernels_v2 in ") + path);
  return *entry();
}

template <class T>
void norms(bool quick) {
  for (const int64_t channels : {1, 3, 4, 5, 17, 64, 130, 264})
    for (const int64_t rows : {1, 49, 33 * 33}) norm_act<T>(3, rows, channels, true, channels % 2 == 0, rows != 49);
  norm_act<T>(1, 5, 1, false, true, true);
  norm_act<T>(1, 1000, 512, false, false, false);
  if (quick) return;
  norm_act<T>(2, 50 * 56 * 56, 64, true, true, true);
  norm_act<T>(1, 1100003, 1, true, false, true);  // chunks of more rows than the least
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) fail("expected two libraries");
  const bool quick = count > 3;
  g_sides.push_back(std::make_unique<Side>(table_of(arguments[1]), 0xff));
  g_sides.push_back(std::make_unique<Side>(table_of(arguments[2]), 0x00));
  if (!g_sides[1]->table.host) fail("expected an emulation as the second library");
#if !defined(LPLD_PROBE_CUDA)
  if (!g_sides[0]->table.host) fail("expected an emulation: this program was built without CUDA");
#endif
  for (const int64_t rows : {1, 7, 4096, 1000003})
    for (const int64_t channels : {1, 3, 64, 2048})
      if (g_sides[0]->table.norm_chunks(rows, channels) != g_sides[1]->table.norm_chunks(rows, channels))
        fail("the libraries cut rows differently");
  norms<float>(quick);
  norms<uint16_t>(quick);
  for (const int64_t channels : {1, 5, 256, 257, 700}) match(channels == 5 ? 50 : 3, channels);
  for (const int64_t size : {1, 2, 7, 28, 33, 64}) crop(size == 7 ? 1 : 3, 2, size % 2 == 0 ? 3 : 1, size, size % 3);
  adam(1, 1, 1);
  adam(7, 3, 33 * 35);
  record(1, 1);
  record(300, 20);
  record(2, 700);
  for (const int64_t channels : {1, 3})
    for (const int64_t size : {1, 7, 28, 33}) render(size == 7 ? 1 : 9, size, channels);
  if (!quick) render(20, 224, 3);
  std::printf("{\"cases\": %d, \"wrong\": %d}\n", g_cases, g_wrong);
  return g_wrong > 0;
}
