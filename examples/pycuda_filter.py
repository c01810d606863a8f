"""A CUDA kernel between the generator and the webcam: it darkens the corners of each frame in GPU memory.

pip install 'everframe[gpu,pycuda,webcam]'      (and a virtual camera, as for webcam.py)
python examples/pycuda_filter.py bundles/landscape
"""

import sys

import numpy as np
import pycuda.autoprimaryctx  # noqa: F401 - the context that the engine uses, too
import pycuda.driver as driver
import pyvirtualcam
from pycuda.compiler import SourceModule

from runtime import Generator

darken = SourceModule("""__global__ void darken(unsigned char *rgb, int height, int width) {
    int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
    float u = 2.0f * x / width - 1.0f, v = 2.0f * y / height - 1.0f;
    if (x < width && y < height)
        for (int c = 0; c < 3; ++c) rgb[3 * (y * width + x) + c] *= 1.0f - 0.4f * (u * u + v * v);
}""").get_function("darken")

with Generator.open(sys.argv[1], engine="tensorrt-rtx,onnxruntime-cuda") as generator:
    height, width = generator.height, generator.width
    shown = driver.pagelocked_empty((height, width, 3), np.uint8)
    with pyvirtualcam.Camera(width, height, float(generator.fps)) as camera:
        for _ in generator:
            frame, size = generator.device_frame(), (np.int32(height), np.int32(width))
            darken(frame, *size, block=(16, 16, 1), grid=(-(-width // 16), -(-height // 16)))
            driver.memcpy_dtoh(shown, frame.address)  # waits for the kernel
            camera.send(shown)
            camera.sleep_until_next_frame()
