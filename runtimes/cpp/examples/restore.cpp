// Restores a colour PFM (float32 RGB) with a pack, in C++: restore_cpp FOLDER IN OUT [SEED].
// The handle is a unique_ptr, failures are exceptions, and a line says how far it is.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "irsde.h"

namespace {

struct Close {
    void operator()(irsde_handle* handle) const { irsde_close(handle); }
};
using Handle = std::unique_ptr<irsde_handle, Close>;

template <class Struct>
Struct sized() {
    Struct empty{};
    empty.struct_size = sizeof empty;
    return empty;
}

Handle open(const std::string& folder) {
    irsde_handle* handle = nullptr;
    if (irsde_open(folder.c_str(), nullptr, &handle) != IRSDE_OK) throw std::runtime_error(irsde_last_error(nullptr));
    return Handle(handle);
}

struct Picture {
    int width = 0, height = 0;
    std::vector<float> pixels;  // rows from the bottom to the top, as in the file
};

Picture read_pfm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic, scale;
    Picture picture;
    file >> magic >> picture.width >> picture.height >> scale;
    file.get();
    const bool sized = picture.width > 0 && picture.height > 0 && picture.width <= 65536 && picture.height <= 65536;
    if (!file || magic != "PF" || scale[0] != '-' || !sized)
        throw std::runtime_error(path + ": not a little-endian colour PFM");
    picture.pixels.resize(std::size_t{3} * picture.width * picture.height);
    const auto bytes = static_cast<std::streamsize>(picture.pixels.size() * sizeof(float));
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), bytes))
        throw std::runtime_error(path + ": the file is cut off");
    return picture;
}

void write_pfm(const std::string& path, const Picture& picture) {
    std::ofstream file(path, std::ios::binary);
    file << "PF\n" << picture.width << ' ' << picture.height << "\n-1.0\n";
    file.write(reinterpret_cast<const char*>(picture.pixels.data()),
               static_cast<std::streamsize>(picture.pixels.size() * sizeof(float)));
    if (!file) throw std::runtime_error(path + ": cannot be written");
}

void restore(irsde_handle* handle, Picture& picture, const irsde_run& run) {
    auto frame = sized<irsde_frame>();
    frame.width = picture.width;
    frame.height = picture.height;
    frame.type = IRSDE_F32;
    frame.row_stride = -std::int64_t{3} * picture.width * static_cast<std::int64_t>(sizeof(float));
    frame.pixels = picture.pixels.data() + std::size_t{3} * picture.width * (picture.height - 1);
    if (irsde_restore(handle, &frame, &frame, &run) != IRSDE_OK) throw std::runtime_error(irsde_last_error(handle));
}

int show(int done, int steps, void*) {
    std::cout << "step " << done << " of " << steps << '\n';
    return 0;
}

}  // namespace

int main(int count, char** arguments) try {
    if (count != 4 && count != 5) {
        std::cerr << "usage: restore_cpp FOLDER IN.pfm OUT.pfm [SEED]\n";
        return 2;
    }
    const Handle handle = open(arguments[1]);
    auto pack = sized<irsde_description>();
    irsde_describe(handle.get(), &pack);
    std::cout << pack.engine << ": " << pack.sampler << ", " << pack.steps << " steps\n";
    Picture picture = read_pfm(arguments[2]);
    auto run = sized<irsde_run>();
    run.on_step = show;
    if (count == 5) {
        run.has_seed = 1;
        run.seed = std::strtoull(arguments[4], nullptr, 10);
    }
    restore(handle.get(), picture, run);
    write_pfm(arguments[3], picture);
    return 0;
} catch (const std::exception& error) {
    std::cerr << "restore_cpp: " << error.what() << '\n';
    return 1;
}
