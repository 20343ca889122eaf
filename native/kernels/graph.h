#pragma once
// A captured CUDA graph as liblpld_graph.so makes it (kernels/graph.cpp): one C symbol, lpld_graph_v2(), returns a new one.
#include <functional>
#include <string>

namespace lpld {

class Graph {
 public:
  virtual ~Graph() = default;
  // Records what `body` launches on the current stream, which may not be the default one; nothing runs yet. Memory taken
  // meanwhile belongs to the graph. Empty, or why CUDA made no graph of it: then the stream launches as before and nothing
  // is held, as after an error of the body, which passes through.
  virtual std::string capture(const std::function<void()>& body) = 0;
  virtual void replay() = 0;  // all of it, once, on the current stream
};

}  // namespace lpld

extern "C" {
lpld::Graph* lpld_graph_v2();
}
