"""Quality models on libvmaf features: data, training, evaluation, gate and registry."""
