#pragma once
// Runs iterations that are all the same work on a CUDA device without waiting for any of them: launched ahead of the device
// on a side stream, as replays of one captured iteration where a graph is wanted and liblpld_graph.so is there. Progress and
// cancel are looked at when an event says that the iterations launched before the last few are done.
#include "core/job.h"
#include "jobs/synthesis_segment.h"

namespace lpld {

// `iterate` launches one iteration of the segment. After return all of them are done. Throws E_CANCELLED. Returns why CUDA
// made no graph where one was wanted and worth it (they were launched one by one then), else empty.
std::string run_queued(SynthesisSegment& segment, int64_t steps, const std::function<void()>& iterate, bool graph,
                       const JobContext& job);

}  // namespace lpld
