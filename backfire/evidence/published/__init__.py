"""What a paper prints and concludes, judged by the games of a sweep."""
