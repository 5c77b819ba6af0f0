"""Drive encoders through ffmpeg, score with libvmaf, keep a resumable corpus."""
