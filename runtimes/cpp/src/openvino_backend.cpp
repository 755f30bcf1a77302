// OpenVINO on the CPU: the graph compiled for each input size, as irsde_deploy/runtimes/engines/openvino_engine.py does.
#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <openvino/frontend/manager.hpp>
#include <openvino/runtime/core.hpp>
#include <openvino/runtime/properties.hpp>
#include <utility>

#include "backend.h"
#include "failure.h"

namespace irsde::runtime {

namespace {

// Compiled sizes that are kept, and bytes of weights in them, since each has its own; the one unused for longest goes
// first, the last one stays.
constexpr std::uint64_t MAX_SIZES = 4, MAX_BYTES = 1 << 29;

bool is_out_of_memory(const std::exception& error) {
    const std::string words = error.what();
    return words.find("alloc") != words.npos || words.find("out of memory") != words.npos;
}

class OpenVinoBackend : public Backend {
public:
    OpenVinoBackend(const Pack& pack, int threads) : pack_(pack), threads_(threads) {
        start();
        bool fits = false;
        try {
            graph_ = read_onnx(pack.engine().string());
            fits = graph_fits();
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            fail(IRSDE_ENGINE_FAILED, "%s: not an ONNX model that OpenVINO can load (%s): pack the engine again",
                 shown(pack.engine()).c_str(), reason(error).c_str());
        }
        if (!fits)
            fail(IRSDE_BAD_PACK, "%s: the graph must map x%s and t to eps, float32 with %d channels: pack it again",
                 shown(pack.engine()).c_str(), pack.conditional ? ", mu" : "", pack.channels);
        require_same_card(pack, own_card());
    }

    /// The model card in the graph's metadata; empty where there is none.
    std::string own_card() const {
        const std::vector<std::string> where{"framework", "irsde_card"};  // where the ONNX front end puts metadata
        return graph_->has_rt_info(where) ? graph_->get_rt_info<std::string>(where) : std::string();
    }

    std::string name() const override {
        const std::string build = ov::get_openvino_version().buildNumber;
        return "OpenVINO " + build.substr(0, build.find('-')) + ", cpu";
    }

    void begin(const float* mu, int height, int width) override {
        mu_ = mu;
        shape_ = {1, static_cast<std::size_t>(pack_.channels), static_cast<std::size_t>(height),
                  static_cast<std::size_t>(width)};
    }

    void evaluate(const float* x, float t, float* eps) override {
        try {
            ov::InferRequest& request = request_for(shape_);
            request.set_tensor("x", wrapped(shape_, x));
            if (pack_.conditional) request.set_tensor("mu", wrapped(shape_, mu_));
            request.set_tensor("t", wrapped({1}, &t));
            request.set_output_tensor(wrapped(shape_, eps));
            request.infer();
        } catch (const std::exception& error) {
            if (is_out_of_memory(error))
                fail(IRSDE_OUT_OF_MEMORY,
                     "OpenVINO has not enough memory for an input of 1x%zux%zux%zu: use smaller pictures", shape_[1],
                     shape_[2], shape_[3]);
            fail(IRSDE_ENGINE_FAILED, "OpenVINO failed at input size 1x%zux%zux%zu: %s", shape_[1], shape_[2],
                 shape_[3], reason(error).c_str());
        }
    }

private:
    /// The caller's array as a tensor, without a copy; inputs are only read.
    static ov::Tensor wrapped(const ov::Shape& shape, const float* values) {
        return {ov::element::f32, shape, const_cast<float*>(values)};
    }

    void start() {
        try {
            core_ = &core_of_process();
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            fail(IRSDE_ENGINE_FAILED, "OpenVINO cannot start (%s): install it again", reason(error).c_str());
        }
    }

    /// One for all handles, and never freed: its plug-in gives the thread that loads it a stack for signals, and unmaps
    /// that stack in whichever thread lets the plug-in go, after which the first thread's next signal would be a fault.
    static ov::Core& core_of_process() {
        static auto* core = new ov::Core;
        return *core;
    }

    /// As Core::read_model does, but by the ONNX front end alone: others would print what they think of a damaged file.
    static std::shared_ptr<ov::Model> read_onnx(const std::string& file) {
        const ov::frontend::FrontEnd::Ptr reader = ov::frontend::FrontEndManager().load_by_framework("onnx");
        return reader->convert(reader->load(file));
    }

    bool graph_fits() const {
        std::size_t inputs = pack_.conditional ? 3 : 2;
        bool fits = graph_->inputs().size() == inputs && graph_->outputs().size() == 1;
        for (const auto& ports : {graph_->inputs(), graph_->outputs()}) {
            for (const auto& port : ports) {
                const std::string name = port.get_names().empty() ? "" : port.get_any_name();
                const ov::PartialShape& shape = port.get_partial_shape();
                const bool known = name == "x" || name == "t" || name == "eps" || (name == "mu" && pack_.conditional);
                const bool picture = shape.rank().is_static() && shape.size() == 4;
                const bool shaped = name == "t" ? !picture : picture && shape[1] == ov::Dimension(pack_.channels);
                fits = fits && known && shaped && port.get_element_type() == ov::element::f32;
            }
        }
        return fits;
    }

    ov::InferRequest& request_for(const ov::Shape& shape) {
        for (auto entry = requests_.begin(); entry != requests_.end(); ++entry)
            if (entry->first == shape) {
                requests_.splice(requests_.begin(), requests_, entry);
                return requests_.front().second;
            }
        if (requests_.size() >= kept_) requests_.pop_back();
        requests_.emplace_front(shape, compiled(shape));
        return requests_.front().second;
    }

    /// A request for inputs of this shape; the graph itself stays as it is. FP32 means FP32.
    ov::InferRequest compiled(const ov::Shape& shape) {
        const std::shared_ptr<ov::Model> graph = graph_->clone();
        std::map<std::string, ov::PartialShape> shapes{{"x", shape}, {"t", ov::PartialShape{1}}};
        if (pack_.conditional) shapes["mu"] = shape;
        graph->reshape(shapes);
        ov::AnyMap settings{ov::hint::inference_precision(ov::element::f32),
                            ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
        if (threads_ > 0) settings.insert(ov::inference_num_threads(threads_));
        ov::CompiledModel model = core_->compile_model(graph, "CPU", settings);
        if (model.output().get_shape() != shape)
            fail(IRSDE_ENGINE_FAILED, "the engine answers with another shape than it is asked in");
        return model.create_infer_request();
    }

    const Pack& pack_;
    const int threads_;
    const std::uint64_t kept_ =
        std::max<std::uint64_t>(1, std::min(MAX_SIZES, MAX_BYTES / std::max<std::uint64_t>(1, pack_.engine_bytes)));
    ov::Core* core_ = nullptr;
    std::shared_ptr<ov::Model> graph_;
    std::list<std::pair<ov::Shape, ov::InferRequest>> requests_;
    const float* mu_ = nullptr;
    ov::Shape shape_;
};

}  // namespace

std::unique_ptr<Backend> open_openvino(const Pack& pack, int threads) {
    return std::make_unique<OpenVinoBackend>(pack, threads);
}

}  // namespace irsde::runtime
