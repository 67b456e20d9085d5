// Goes on with a text on several threads.   generate MODEL.gguf [PROMPT]
#include <attar.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <iostream>

int main(int argc, char **argv) try {
  const std::string prompt = argc > 2 ? argv[2] : "Once upon a time";
  auto source = attar::make<attar_source>();
  const int fd = open(argv[1], O_RDONLY);
  attar::check(attar_source_fd(&source, fd, 0, 0));
  attar::threads threads(2);
  auto config = attar::make<attar_config>();
  config.n_ctx = 256;
  config.exec = threads.exec();
  const attar::model model(source, &config);
  close(fd);
  attar::session session(model, &config);
  session.prefill(model.tokenize(prompt));

  auto sampling = attar::make<attar_sampling>();
  sampling.temp = 0.7f;
  sampling.top_k = 40;
  sampling.top_p = 0.95f;
  sampling.seed = 1;
  auto request = attar::make<attar_request>();
  request.max_tokens = 100;
  request.sampling = &sampling;
  std::cout << prompt;
  const attar_result result = session.generate(request, [](const std::string &text) {
    std::cout << text << std::flush;
    return true;
  });
  std::cout << "\n" << result.n_generated << " tokens\n";
} catch (const attar::error &error) {
  std::cerr << error.what() << "\n";
  return 1;
}
