"""The RTMP listener: OBS, ffmpeg and phones publish into a session."""
