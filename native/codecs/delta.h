#pragma once
// delta: klt of what a view's answer adds to a prediction from whole images. The answers to every image, whole and
// unmixed, are coded once into the basis (dither: seed 0, object = image, view = 0xffffffff) at a sixth of the views'
// noise; with b the coefficients decoded of them, image i mixed with image j is predicted to be
//   g0 b_i + g1 b_j        g = gain[min(15, floor(16 share))]; g0 b_i with gain[16] where nothing is mixed
// and what the centred logits add to that goes through the Klt of klt.h. The gains are least squares on the sample: a crop
// keeps less of the whole image's answer than the share of its pixels. There is one list of vectors: the views take the
// first m, the whole images any, so that most are stored once where that saves bytes. A record is decoded alone.
// `delta:B` and `delta:mse=D` mean what they mean for klt; the bytes of the whole images are in the basis.
#include "codecs/codec.h"

namespace lpld {
std::unique_ptr<Codec> make_delta(const std::string& name);  // null for a name of another codec
}  // namespace lpld
