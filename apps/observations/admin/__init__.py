"""The curators' console over surveys, observations and the work in progress."""

from apps.observations.admin import comments, detections, jobs, observations, photos, surveys

__all__ = ["comments", "detections", "jobs", "observations", "photos", "surveys"]
