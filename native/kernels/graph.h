#pragma once
// A captured CUDA graph as liblpld_graph.so makes it (kernels/graph.cpp): one C symbol, lpld_graph_v1(), returns a new one.
#include <functional>

namespace lpld {

class Graph {
 public:
  virtual ~Graph() = default;
  // Records what `body` launches on the current stream, which may not be the default one; nothing runs yet. Memory taken
  // meanwhile belongs to the graph. LibTorch's errors pass through.
  virtual void capture(const std::function<void()>& body) = 0;
  virtual void replay() = 0;  // all of it, once, on the current stream
};

}  // namespace lpld

extern "C" {
lpld::Graph* lpld_graph_v1();
}
